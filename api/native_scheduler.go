package api

import (
	"slices"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/workflows"
)

// nativeSchedule refuses what FATE-Flow's own parties ask of a scheduler of their own.
func (s *Server) nativeSchedule(c *fiber.Ctx) error {
	if _, err := s.readBody(c, s.MaxDocumentBytes); err != nil {
		return err
	}
	c.Locals(localReached, true)
	return bfia.Errorf(bfia.CodeRefused,
		"%s schedules jobs of the BFIA protocol, not of FATE's own, and runs none of them again: "+
			"submit the job with %s, or let a FATE-Flow schedule it (dag.conf.scheduler_party_id)", s.Node, bfia.PathCreateAll)
}

// nativeReport takes a party's word about its part of a task, in FATE-Flow's own form.
func (s *Server) nativeReport(c *fiber.Ctx) error {
	var in bfia.FateReport
	if err := s.readJSON(c, &in); err != nil {
		return err
	}
	for _, f := range []struct{ name, value string }{{"task_id", in.TaskID}, {"role", in.Role},
		{"party_id", in.PartyID}} {
		if err := bfia.CheckID(f.name, f.value); err != nil {
			return err
		}
	}
	if sender := s.sender(c); sender != "" && sender != in.PartyID {
		return bfia.Errorf(bfia.CodeForbidden, "party_id: is %s, and the report comes from %s", in.PartyID,
			sender)
	}
	state, err := bfia.TaskStateOfFate(in.Status)
	if err != nil {
		return err
	}
	task, err := s.store.ScheduleTaskByID(c.UserContext(), in.TaskID)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return bfia.Errorf(bfia.CodeNotFound, "task_id: %s schedules no task %s", s.Node, in.TaskID)
	}
	if err != nil {
		return err
	}
	nodes, err := s.participants(c.UserContext(), task.JobID)
	if err != nil {
		return err
	}
	if !slices.Contains(nodes, in.PartyID) {
		return bfia.Errorf(bfia.CodeForbidden, "%s is not a participant of job %s", in.PartyID, task.JobID)
	}
	if _, err := s.signal(c.UserContext(), workflows.JobID(task.JobID), workflows.SignalCallback,
		workflows.Callback{Node: in.PartyID, TaskID: in.TaskID, Role: in.Role, State: state}); err != nil {
		return err
	}
	return ok(c, nil)
}
