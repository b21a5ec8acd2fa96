-- The end that the container of an attempt has reported, and the attempt's task id. An older version resets neither when
-- an attempt begins.
ALTER TABLE t_task ADD COLUMN reported_state TEXT NOT NULL DEFAULT '';
--bun:split
ALTER TABLE t_task ADD COLUMN reported_task_id TEXT NOT NULL DEFAULT '';
