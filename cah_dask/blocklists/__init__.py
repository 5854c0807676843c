"""What may never be fetched or kept: lists of uids, urls, hosts, digests and phrases."""
