"""Readers: what makes items of records of archives."""
