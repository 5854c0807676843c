"""The job of `cah classify`: archives -> items -> scores.  tasks -> job -> output."""
