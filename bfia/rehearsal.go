package bfia

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// A rehearsal is a job that reads synthetic rows. Each dataset has a synthetic one with the same columns and
// types, which its party makes when a job names it. Its namespace begins with rehearsalPrefix, so that a
// party which makes none finds no such dataset and refuses the job, instead of reading the real rows.
const rehearsalPrefix = "rehearsal."

// Rehearsal returns the address of the synthetic dataset for a dataset.
func (a Address) Rehearsal() Address {
	return Address{Name: a.Name, Namespace: rehearsalPrefix + a.Namespace}
}

// Rehearsed returns the dataset for which the synthetic one has this address, and whether it is such an
// address.
func (a Address) Rehearsed() (Address, bool) {
	namespace, found := strings.CutPrefix(a.Namespace, rehearsalPrefix)
	return Address{Name: a.Name, Namespace: namespace}, found
}

// IsRehearsal reports whether a dataset_id is that of a synthetic dataset.
func IsRehearsal(datasetID string) bool { return strings.HasPrefix(datasetID, rehearsalPrefix) }

// Rehearse changes a job's document into that of a rehearsal: every dataset_id names the synthetic dataset,
// the flow has an id of its own, and no earlier job is reused. The job id is removed.
func Rehearse(document map[string]json.RawMessage) error {
	var config map[string]json.RawMessage
	if err := json.Unmarshal(document["config"], &config); err != nil {
		return Errorf(CodeBadRequest, "config: is missing, or is not a JSON object")
	}
	params := map[string]any{}
	if raw := config["task_params"]; raw != nil {
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.UseNumber() // numbers stay as they are written
		if err := decoder.Decode(&params); err != nil {
			return Errorf(CodeBadRequest, "config.task_params: is not a JSON object")
		}
	}
	changed := 0
	for scope, tasks := range params {
		depth := 2 // the part's index, then the task
		if scope == "common" {
			depth = 1
		}
		n, err := rehearseParams("config.task_params."+scope, tasks, depth)
		if err != nil {
			return err
		}
		changed += n
	}
	if changed == 0 {
		return Errorf(CodeBadRequest, "config.task_params: no task names a dataset_id, so there is "+
			"nothing to rehearse")
	}

	var flow string
	if err := json.Unmarshal(document["flow_id"], &flow); document["flow_id"] != nil && err != nil {
		return Errorf(CodeBadRequest, "flow_id: must be a string")
	}
	if flow != "" {
		document["flow_id"], _ = json.Marshal(flow + ".rehearsal") // a string always marshals
	}
	delete(document, "job_id")
	delete(document, "old_job_id")
	var err error
	if config["task_params"], err = json.Marshal(params); err != nil {
		return fmt.Errorf("failed to encode the parameters of the rehearsal: %w", err)
	}
	if document["config"], err = json.Marshal(config); err != nil {
		return fmt.Errorf("failed to encode the configuration of the rehearsal: %w", err)
	}
	return nil
}

// rehearseParams makes each dataset_id of the tasks in a scope of task_params synthetic, and returns how
// many. depth is the number of names between the scope and a task's parameters.
func rehearseParams(place string, scope any, depth int) (int, error) {
	object, ok := scope.(map[string]any)
	if !ok {
		return 0, nil // the party refuses it
	}
	if depth > 0 {
		changed := 0
		for name, field := range object {
			n, err := rehearseParams(place+"."+name, field, depth-1)
			if err != nil {
				return 0, err
			}
			changed += n
		}
		return changed, nil
	}

	field := object[datasetParam]
	if field == nil || field == "" {
		return 0, nil
	}
	id, _ := field.(string)
	namespace, name, _ := strings.Cut(id, "#")
	if CheckID("", namespace) != nil || CheckID("", name) != nil {
		return 0, Errorf(CodeBadRequest, "%s.%s: %v is not of the form namespace#name", place,
			datasetParam, field)
	}
	dataset := Address{Name: name, Namespace: namespace}
	if _, synthetic := dataset.Rehearsed(); synthetic {
		return 0, Errorf(CodeBadRequest, "%s.%s: %q is synthetic already; rehearse the job that reads the "+
			"dataset itself", place, datasetParam, id)
	}
	object[datasetParam] = dataset.Rehearsal().String()
	return 1, nil
}

// CheckRehearsal returns an error if a job reads synthetic datasets and real datasets. It names a part that
// reads a real one.
func CheckRehearsal(doc *Document, plan *Plan, describe Describe) error {
	var synthetic bool
	var real, place string
	for _, t := range plan.Tasks {
		for _, part := range t.Parts {
			address, err := doc.RootDataset(describe, t.Name, part)
			if err != nil {
				return err
			}
			if address == nil {
				continue
			}
			if _, is := address.Rehearsed(); is {
				synthetic = true
			} else if real == "" {
				real = address.String()
				place = fmt.Sprintf("config.task_params.%s.%d.%s", part.Role, part.Index, t.Name)
			}
		}
	}
	if synthetic && real != "" {
		return Errorf(CodeBadRequest, "%s: reads the dataset %s, and other tasks of this job read synthetic "+
			"rows; a rehearsal names all its datasets by dataset_id, in namespaces that begin with %s", place, real,
			rehearsalPrefix)
	}
	return nil
}
