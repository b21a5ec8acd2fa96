package fateflow

import (
	"encoding/json"
	"strconv"

	"hutong/bfia"
)

// TaskID returns FATE-Flow's id of a task, which all versions of the task share.
func TaskID(jobID, task string) string { return jobID + "_" + task }

// Attempt translates a version of a FATE-Flow task, which counts from 0, to an attempt, which counts from 1.
//
// The first attempt has FATE-Flow's own task id. A later one has an id of its own, which can't collide with
// the id of another task: task names contain no '.'.
func Attempt(jobID, task string, version int) bfia.TaskRef {
	ref := bfia.TaskRef{JobID: jobID, TaskID: TaskID(jobID, task), TaskName: task}
	if version > 0 {
		ref.TaskID += ".v" + strconv.Itoa(version)
		ref.Attempt = version + 1
	}
	return ref
}

// Scheduled reports whether the scheduler of a document's job speaks FATE-Flow's own protocol.
func Scheduled(doc *bfia.Document) bool {
	var name string
	return json.Unmarshal(doc.Field("protocol"), &name) == nil && name == protocol
}
