package api

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
)

// nativeCommand is the body of FATE-Flow's own commands to a partner (the seed, steps 10 and 20 of the execution): one
// call for each role and party, where the protocol has one for each party.
type nativeCommand struct {
	JobID   string `json:"job_id"`
	Role    string `json:"role"`
	PartyID string `json:"party_id"`
	TaskID  string `json:"task_id"`
	Schema  struct {
		// DAG holds the job: dag, config, flow_id and old_job_id, as FATE-Flow's adapter keeps it.
		DAG map[string]json.RawMessage `json:"dag"`
	} `json:"dag_schema"`
}

// native serves a command of FATE-Flow's own by the protocol's: translate makes the body of the one of the other.
func (s *Server) native(translate func(*nativeCommand) (any, error), handler fiber.Handler) fiber.Handler {
	return func(c *fiber.Ctx) error {
		var in nativeCommand
		if err := s.readJSON(c, &in); err != nil {
			return err
		}
		if in.PartyID != s.Node {
			return bfia.Errorf(bfia.CodeBadRequest, "party_id: is %q, this party is %s", in.PartyID, s.Node)
		}
		if err := bfia.CheckID("role", in.Role); err != nil {
			return err
		}
		out, err := translate(&in)
		if err != nil {
			return err
		}
		raw, err := json.Marshal(out)
		if err != nil {
			return bfia.Wrap(bfia.CodeBadRequest, err, "body: can't be read")
		}
		s.bodyStream(c).r = bytes.NewReader(raw)
		return handler(c)
	}
}

func nativeCreate(in *nativeCommand) (any, error) {
	for _, field := range []string{"dag", "config"} {
		if len(in.Schema.DAG[field]) == 0 {
			return nil, bfia.Errorf(bfia.CodeBadRequest, "dag_schema.dag.%s: is required: a job of the BFIA protocol, not of FATE's own", field)
		}
	}
	fields := map[string]any{"job_id": in.JobID}
	for name, raw := range in.Schema.DAG {
		if name != "job_id" {
			fields[name] = raw
		}
	}
	return fields, nil
}

func nativeJob(in *nativeCommand) (any, error) { return bfia.JobRef{JobID: in.JobID}, nil }

func nativeTask(in *nativeCommand) (any, error) {
	name, err := in.taskName()
	return bfia.TaskRef{JobID: in.JobID, TaskID: in.TaskID, TaskName: name}, err
}

func nativeTaskStop(in *nativeCommand) (any, error) {
	name, err := in.taskName()
	return bfia.JobRef{JobID: in.JobID, TaskName: name}, err
}

func nativePoll(in *nativeCommand) (any, error) {
	return bfia.TaskPoll{TaskID: in.TaskID, Role: in.Role}, nil
}

// taskName is what stands in a task's id behind its job's.
func (in *nativeCommand) taskName() (string, error) {
	name, ok := strings.CutPrefix(in.TaskID, in.JobID+"_")
	if !ok || in.JobID == "" || name == "" {
		return "", bfia.Errorf(bfia.CodeBadRequest, "task_id: %q is not of the form <job_id>_<task name>", in.TaskID)
	}
	return name, nil
}
