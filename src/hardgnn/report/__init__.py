"""The report: one page of tables and figures, of runs or of a study."""
