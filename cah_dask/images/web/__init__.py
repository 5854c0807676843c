"""One request over the network, and its answer.  request_url -> network -> connection -> fetch."""
