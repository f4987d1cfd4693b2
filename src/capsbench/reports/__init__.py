"""Reports: tables and figures from what finished runs left behind."""
