-- The failure that ended an attempt, at whichever party, as the scheduler reports it to the participants with the next
-- attempt. NULL if it does not.
ALTER TABLE t_earlier_attempt ADD COLUMN cause TEXT;
