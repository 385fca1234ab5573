"""The history as typed tables in DuckDB, for the report, the export and Parquet.

DuckDB is imported inside the functions that need it: a run's start-up does not wait for it.
"""
