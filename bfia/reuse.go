package bfia

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
)

// Reusable returns the tasks of a job that can reuse the outputs of an earlier job (old_job_id), in the
// plan's order.
//
// The jobs must have the same parties in the same roles. The task must have the same component, inputs,
// outputs and parameters, must depend on reusable tasks only, and must have succeeded in the earlier job,
// which done reports.
func Reusable(plan *Plan, now, old *Document, done func(task string) bool) []string {
	if !reflect.DeepEqual(now.Config.Role, old.Config.Role) {
		return nil
	}
	var names []string
	for _, t := range plan.Tasks {
		inputsReusable := !slices.ContainsFunc(t.DependsOn,
			func(d string) bool { return !slices.Contains(names, d) })
		if inputsReusable && sameTask(now, old, t.Name) && done(t.Name) {
			names = append(names, t.Name)
		}
	}
	return names
}

// sameTask reports whether a task is the same in both documents, at every part.
func sameTask(now, old *Document, name string) bool {
	a, ok := now.DAG.component(name)
	b, known := old.DAG.component(name)
	if !ok || !known || a.ComponentName != b.ComponentName ||
		a.Provider != b.Provider || a.Version != b.Version ||
		!slices.Equal(a.Input, b.Input) ||
		!slices.Equal(a.Output, b.Output) {
		return false
	}
	for _, part := range now.Config.Parts() {
		p, err := now.Config.TaskParameters(name, part)
		if err != nil {
			return false
		}
		q, err := old.Config.TaskParameters(name, part)
		if err != nil ||
			!maps.EqualFunc(p, q, func(x, y json.RawMessage) bool { return spacedJSON(x) == spacedJSON(y) }) {
			return false
		}
	}
	return true
}
