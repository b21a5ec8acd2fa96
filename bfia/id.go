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

// NewJobID returns a job id in FATE-Flow's form: YYYYMMDDhhmmss and seven digits, 21 in all, which fit
// FATE-Flow's MySQL columns.
//
// Ids of one process never repeat, even within one microsecond. salt (0 to 9) separates the processes of one
// party.
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

// JobIDTime returns the time in a job id of FATE-Flow's form ([NewJobID]) to the microsecond, as if it were
// in UTC; other software writes local times. ok is false for an id of another form.
func JobIDTime(jobID string) (t time.Time, ok bool) {
	const seconds, micros = len("20060102150405"), len("000000")
	if len(jobID) != seconds+micros+1 || strings.Trim(jobID, "0123456789") != "" {
		return time.Time{}, false
	}
	t, err := time.Parse("20060102150405.000000", jobID[:seconds]+"."+jobID[seconds:seconds+micros])
	return t, err == nil
}

// idPattern lists the characters of the ids and names of jobs and tasks, which become parts of container
// names, folders and workflow ids.
var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.\-]*$`)

// CheckID returns an error if an identifier from outside is not valid. The error names the field.
func CheckID(field, id string) error {
	switch {
	case id == "":
		return Errorf(CodeBadRequest, "%s: is required", field)
	case len(id) > 128:
		return Errorf(CodeTooLarge, "%s: is longer than 128 characters", field)
	case !idPattern.MatchString(id) || strings.Contains(id, ".."):
		return Errorf(CodeBadRequest,
			"%s: %q can contain only letters, digits, '_', '-' and '.', and must start with a letter or digit",
			field, id)
	}
	return nil
}

// SessionID returns the id of the session that the containers of a job share (part 2, 2.2).
func SessionID(jobID string) string { return "session_" + jobID }

// AttemptSessionID returns the session of one attempt of a task. The first attempts of all tasks share the
// job's session, unless their provider asks for one for each task ([SessionPerTask]). A later attempt has its
// own, so that it never receives messages of an earlier one.
func AttemptSessionID(jobID, taskID string, attempt int, session string) string {
	if attempt <= 1 && session != SessionPerTask {
		return SessionID(jobID)
	}
	return SessionID(jobID) + DerivedSession + taskID
}

// DerivedSession follows the id of a job's session in the ids of sessions that the job, or one of its
// containers, derives from it. They are released with the job.
const DerivedSession = "_"

// SessionJobs returns the ids of the jobs to which a session may belong: it is the session of a job, or
// derived from it. There may be several, since the id of a job may contain the mark of a derivation. It
// returns none for a text that is not a session of the protocol.
func SessionJobs(session string) []string {
	id, ok := strings.CutPrefix(session, SessionID(""))
	if !ok {
		return nil
	}
	var jobs []string
	for i := range len(id) + 1 {
		if (i == len(id) || strings.HasPrefix(id[i:], DerivedSession)) && CheckID("job_id", id[:i]) == nil {
			jobs = append(jobs, id[:i])
		}
	}
	return jobs
}

var taskNamespace = uuid.MustParse("6f1d6a2e-5c1e-4d5a-9a68-0c8a4b6d9f11")

// TaskID returns the id that Hutong, as scheduler, gives a task. It is derived from the job and the task's
// name, so that a replayed workflow or a repeated request gets the same id.
func TaskID(jobID, taskName string) string {
	return AttemptID(jobID, taskName, 1)
}

// AttemptID returns the id of one attempt of a task; [TaskID] is that of the first. Each attempt has its own
// id, so that a late callback, output or log of an earlier attempt is never attributed to a later one.
func AttemptID(jobID, taskName string, attempt int) string {
	name := jobID + "/" + taskName
	if attempt > 1 {
		name = fmt.Sprintf("%s/%d", name, attempt)
	}
	return uuid.NewSHA1(taskNamespace, []byte(name)).String()
}
