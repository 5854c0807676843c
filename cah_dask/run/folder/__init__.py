"""What lies in the folder of a job: its lock, its journal, its parts."""
