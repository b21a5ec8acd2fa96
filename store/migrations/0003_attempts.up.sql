-- Which attempt of a task its id names.
ALTER TABLE t_schedule_task ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1;
