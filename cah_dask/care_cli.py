"""Care for releases: `cah redact | join | diff`."""
