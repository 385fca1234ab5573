"""Who counts, as SQL: for the page, for usage and for calls alike."""

RULES = """
CREATE MACRO meeting(service) AS lower(coalesce(service, '')) <> 'two_stage_dialing';
CREATE MACRO person(protocol, service) AS
    upper(split_part(trim(coalesce(protocol, '')), ' ', 1)) NOT IN ('API', 'BACKPLANE') AND meeting(service);
"""
"""Neither what controls a call (API), nor what connects nodes (BACKPLANE), nor a stay in a Virtual Reception: its
caller is counted in the room that they are put through to."""
