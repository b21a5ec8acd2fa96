package bfia

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

var lastJobID struct {
	sync.Mutex
	micros int64
}

// NewJobID makes a job id in FATE-Flow's form: YYYYMMDDhhmmss and seven digits, 21 in all, so that its MySQL columns
// take it. Ids of one process never repeat, even within one microsecond; salt (0 to 9) keeps apart processes of one party.
func NewJobID(now time.Time, salt int) string {
	lastJobID.Lock()
	micros := now.UnixMicro()
	if micros <= lastJobID.micros {
		micros = lastJobID.micros + 1
	}
	lastJobID.micros = micros
	lastJobID.Unlock()
	t := time.UnixMicro(micros).UTC()
	return fmt.Sprintf("%s%06d%d", t.Format("20060102150405"), t.Nanosecond()/1000, ((salt%10)+10)%10)
}

// The characters that may stand in a job's or task's id or name: they become parts of container names, folders and
// workflow ids.
var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.\-]*$`)

// CheckID tells what is wrong with an identifier that came from outside, or nil; field names it in the message.
func CheckID(field, id string) error {
	switch {
	case id == "":
		return Errorf(CodeBadRequest, "%s: is required", field)
	case len(id) > 128:
		return Errorf(CodeTooLarge, "%s: is longer than 128 characters", field)
	case !idPattern.MatchString(id) || strings.Contains(id, ".."):
		return Errorf(CodeBadRequest, "%s: %q may hold only letters, digits, '_', '-' and '.', and must begin with a letter or digit", field, id)
	}
	return nil
}

// SessionID is the id that the containers of a job share on the channel (part 2, 2.2).
func SessionID(jobID string) string { return "session_" + jobID }

// AttemptSessionID is the same for one attempt of a task. The first attempts of all tasks share the job's; a further one
// has its own, in which no message of an earlier one can be.
func AttemptSessionID(jobID, taskID string, attempt int) string {
	if attempt <= 1 {
		return SessionID(jobID)
	}
	return SessionID(jobID) + "_" + taskID
}

var taskNamespace = uuid.MustParse("6f1d6a2e-5c1e-4d5a-9a68-0c8a4b6d9f11")

// TaskID is the id that Hutong, as scheduler, gives a task. It follows from the job and the task's name, so that a
// workflow that is replayed, or a request that is made again, names the same task.
func TaskID(jobID, taskName string) string {
	return AttemptID(jobID, taskName, 1)
}

// AttemptID is the id of one attempt of a task: [TaskID] is that of the first. Each has its own, so that nothing late of an
// attempt that was given up, no callback, output or log, is taken for the next one's.
func AttemptID(jobID, taskName string, attempt int) string {
	name := jobID + "/" + taskName
	if attempt > 1 {
		name = fmt.Sprintf("%s/%d", name, attempt)
	}
	return uuid.NewSHA1(taskNamespace, []byte(name)).String()
}
