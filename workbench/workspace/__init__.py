"""What must outlive a browser tab, and the jobs that run behind it. `home.Workspace`, `jobs.Jobs`."""
