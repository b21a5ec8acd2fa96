-- Jobs by the beginning of their ids, see JobFilter.
CREATE INDEX i_job_prefix ON t_job (substr(job_id, 1, 12));
