"""The job of `cah classify`: archives -> items -> scores -> what is kept.  tasks -> job -> output."""
