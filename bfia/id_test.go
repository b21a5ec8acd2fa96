package bfia

import (
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestNewJobIDForm(t *testing.T) {
	lastJobID.Lock()
	lastJobID.micros = 0
	lastJobID.Unlock()
	now := time.Date(2031, 5, 6, 23, 59, 59, 123456789, time.FixedZone("CST", 8*3600))
	id := NewJobID(now, 7)
	require.Equal(t, "20310506155959"+"123456"+"7", id)
	require.Len(t, id, 21)
	require.Equal(t, "20310506155959"+"123457"+"7", NewJobID(now, 17),
		"the same microsecond gives the next id")
	require.Equal(t, "20310506155959"+"123458"+"7", NewJobID(now.Add(-time.Hour), -3),
		"a clock set back does not repeat an id")
	require.NoError(t, CheckID("job_id", id))
}

func TestNewJobIDNeverRepeats(t *testing.T) {
	now := time.Now()
	ids := make([][]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			for range 500 {
				ids[i] = append(ids[i], NewJobID(now, 0))
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	form := regexp.MustCompile(`^\d{21}$`)
	for _, list := range ids {
		last := ""
		for _, id := range list {
			require.Regexp(t, form, id)
			require.False(t, seen[id], id)
			require.Greater(t, id, last)
			seen[id], last = true, id
		}
	}
	require.Len(t, seen, 8*500)
}

func TestSessionJobs(t *testing.T) {
	for session, want := range map[string][]string{
		"":             nil,
		"J":            nil,
		"session_":     nil,
		"session_J":    {"J"},
		"session_J_x":  {"J", "J_x"},
		"session_J__x": {"J", "J_", "J__x"},
		"session_J_x/": {"J"},
		SessionID("J") + DerivedSession + strings.Repeat("x", 4096): {"J"},
	} {
		require.Equal(t, want, SessionJobs(session), session)
	}
}

func TestJobIDTime(t *testing.T) {
	at, ok := JobIDTime("203105061559591234567")
	require.True(t, ok)
	require.Equal(t, time.Date(2031, 5, 6, 15, 59, 59, 123456000, time.UTC), at)
	now := time.Now()
	at, ok = JobIDTime(NewJobID(now, 3))
	require.True(t, ok)
	require.False(t, at.Before(now.Truncate(time.Microsecond)),
		"an id is not older than its making: a restore of the same second refuses it otherwise")
	for _, id := range []string{"", "J", "2031050615595912345", "2031050615595912345678",
		"203113061559591234567", "2031050615595x1234567", "203105061559591234567x"} {
		_, ok := JobIDTime(id)
		require.False(t, ok, id)
	}
}

func TestCheckID(t *testing.T) {
	for _, id := range []string{"a", "0", "202611221815369700790", "JG0100001100000010", "intersect_rsa_1",
		"train-ks", "2.0.0", strings.Repeat("x", 128)} {
		require.NoError(t, CheckID("job_id", id), id)
	}
	form := ` can contain only letters, digits, '_', '-' and '.', and must start with a letter or digit`
	for _, test := range []struct {
		id, message string
		code        Code
	}{
		{"", "job_id: is required", CodeBadRequest},
		{strings.Repeat("x", 129), "job_id: is longer than 128 characters", CodeTooLarge},
		{"a..b", `job_id: "a..b"` + form, CodeBadRequest},
		{"../etc", `job_id: "../etc"` + form, CodeBadRequest},
		{"a/b", `job_id: "a/b"` + form, CodeBadRequest},
		{".a", `job_id: ".a"` + form, CodeBadRequest},
		{"-a", `job_id: "-a"` + form, CodeBadRequest},
		{"a\n", `job_id: "a\n"` + form, CodeBadRequest},
		{"a b", `job_id: "a b"` + form, CodeBadRequest},
		{"a\x00", `job_id: "a\x00"` + form, CodeBadRequest},
		{"任务", `job_id: "任务"` + form, CodeBadRequest},
		{"a#b", `job_id: "a#b"` + form, CodeBadRequest},
	} {
		requireRefusal(t, CheckID("job_id", test.id), test.code, test.message)
	}
}

// TestTaskIDsOfProviders fixes the ids of tasks: providers/fate finds the model of an earlier job by them.
func TestTaskIDsOfProviders(t *testing.T) {
	require.Equal(t, "adb07590-3426-54e0-be8e-0efa1ddabbba", TaskID("20260101", "sbt_0"))
	require.Equal(t, "592fd355-42c9-57d1-9ea2-856ae55465a8", AttemptID("20260101", "sbt_0", 2))
}

func TestSessionAndTaskID(t *testing.T) {
	require.Equal(t, "session_202611221759091390050", SessionID("202611221759091390050"))
	id := TaskID("202611221759091390050", "intersect_rsa_1")
	require.NoError(t, uuid.Validate(id))
	require.Equal(t, id, TaskID("202611221759091390050", "intersect_rsa_1"), "a replay names the same task")
	require.NotEqual(t, id, TaskID("202611221759091390050", "intersect_rsa_2"))
	require.NotEqual(t, id, TaskID("202611221759091390051", "intersect_rsa_1"))
	require.NoError(t, CheckID("task_id", id))
}
