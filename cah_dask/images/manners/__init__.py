"""Who may be asked, and when.  frontier -> hosts -> robots -> sitefiles, loans -> turns, pause."""
