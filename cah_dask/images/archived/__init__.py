"""Pictures out of archives instead of the web.  captures, cdx -> index -> visits -> download."""
