package api

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"hutong/activities"
	"hutong/bfia"
	"hutong/store"
)

// withLogs returns a job whose first task has a log of each role. The guest's log has two chunks.
func withLogs(t *testing.T) *party {
	p := running(t, "j1")
	_, err := p.store.StartTask(t.Context(), "j1", first, "t1", 1, time.Now())
	require.NoError(t, err)
	for role, chunks := range map[string][]string{
		"guest": {
			"2026-11-23T04:00:00Z {\"level\":\"debug\",\"msg\":\"begin error\"}\n2026-11-23T04:00:01Z INFO the mean error is 3\n",
			"2026-11-23T04:00:02Z 2026-11-23 12:00:02,001 [WARNING] slow\n" +
				"2026-11-23T04:00:03Z time=2026 level=error msg=lost\n2026-11-23T04:00:03Z   at line 7\n\n" +
				"2026-11-23T04:00:04Z {\"levelname\":\"CRITICAL\"}\n2026-11-23T04:00:05Z info: done \xff\n",
		},
		"host": {"2026-11-23T04:00:06Z ERROR host\n"},
	} {
		run := "run-" + role
		require.NoError(t, p.store.SetTaskContainer(t.Context(),
			store.TaskKey{JobID: "j1", Name: first, Role: role}, 1, "h", run, "c"))
		for i, chunk := range chunks {
			require.NoError(t, p.blobs.Put(t.Context(),
				fmt.Sprintf("%s/w/%08d", activities.LogPrefix(run), i), strings.NewReader(chunk)))
		}
	}
	return p
}

func (p *party) logs(words string) []string {
	p.t.Helper()
	var got struct{ Data string }
	p.good(get(bfia.PathPlatformLog + "?task_id=t1&" + words)).into(&got)
	if got.Data == "" {
		return nil
	}
	return strings.Split(got.Data, "\n")
}

func TestLogs(t *testing.T) {
	p := withLogs(t)
	for words, want := range map[string]int{
		"role=guest&log_level=debug":     7,
		"role=guest.0&log_level=info":    6,
		"role=guest":                     6,
		"role=guest&log_level=WARNING":   4, // the line of a trace belongs to the one before it
		"role=guest&log_level=error":     3,
		"role=host&log_level=error":      1,
		"log_level=error":                4,
		"role=host&log_level=debug":      1,
		"log_level=debug":                8,
		"role=guest&log_level=critical":  3,
		"role=guest.0&log_level=warn":    4,
		"role=guest&log_level=debug&x=y": 7,
	} {
		require.Len(t, p.logs(words), want, words)
		r := p.good(get(bfia.PathPlatformLogLines + "?task_id=t1&" + words))
		require.JSONEq(t, fmt.Sprintf(`{"num":%d,"complete":false}`, want), string(r.Data))
		require.Equal(t, fmt.Sprint(want), string(r.Fields["num"]), "next to data, as in FATE-Flow")
	}
	all := p.logs("log_level=debug")
	require.Equal(t, "2026-11-23T04:00:05Z info: done \uFFFD", all[6])
	require.Equal(t, "2026-11-23T04:00:06Z ERROR host", all[7], "one part after the other")
	for words, want := range map[string][]string{"&start=0&length=2": all[:2],
		"&start=2&length=3": all[2:5], "&start=6": all[6:],
		"&start=8": nil, "&start=5&length=100": all[5:],
		"&start=0&length=0": nil, "&start=1&length=2147483647": all[1:]} {
		require.Equal(t, want, p.logs("log_level=debug"+words), words)
	}
	// Ranges count the lines of the level.
	require.Equal(t, all[3:5], p.logs("role=guest&log_level=error&start=0&length=2"))
	r := p.good(call{method: http.MethodGet, path: bfia.PathPlatformLog,
		body: `{"task_id":"t1","role":"guest","log_level":"debug","start":1,"length":1}`})
	require.JSONEq(t, `{"data":"2026-11-23T04:00:01Z INFO the mean error is 3"}`, string(r.Data))

	// A task that has not begun has no lines, and is no error.
	_, err := p.store.StartTask(t.Context(), "j1", second, "t2", 1, time.Now())
	require.NoError(t, err)
	r = p.good(get(bfia.PathPlatformLogLines + "?task_id=t2"))
	require.JSONEq(t, `{"num":0,"complete":false}`, string(r.Data))

	// The log is whole once the container's exit is known, which comes after its callback.
	key := store.TaskKey{JobID: "j1", Name: first, Role: "host"}
	require.NoError(t, p.store.EndTask(t.Context(), key, "t1", bfia.TaskSuccess, "", time.Now()))
	require.JSONEq(t, `{"num":1,"complete":false}`,
		string(p.good(get(bfia.PathPlatformLogLines+"?task_id=t1&role=host")).Data))
	require.NoError(t, p.store.SetTaskExit(t.Context(), key, 1, 0, "", time.Now()))
	require.JSONEq(t, `{"num":1,"complete":true}`,
		string(p.good(get(bfia.PathPlatformLogLines+"?task_id=t1&role=host")).Data))
	require.JSONEq(t, `{"num":7,"complete":false}`,
		string(p.good(get(bfia.PathPlatformLogLines+"?task_id=t1")).Data))
}

func TestLineLevel(t *testing.T) {
	const debug, info, warning, fault = 0, 1, 2, 3
	for line, want := range map[string]int{
		`{"level":"error","msg":"x"}`:               fault,
		`{"LEVEL":"Warn"}`:                          warning,
		`{"severity":"DEBUG","level":30}`:           debug,
		`{"log.level":"info","message":"ERROR in"}`: info,
		`{"lvl":"trace"}`:                           debug,
		`{"message":"FATAL words","code":7}`:        info, // it has no level: that of the line before
		`[ERROR] [2026-11-23] [pid]`:                fault,
		`2026-11-23 04:00:00,1 - mod - WARNING - x`: warning,
		`the error is 3`:                            info,
	} {
		require.Equal(t, want, lineLevel("2026-11-23T04:00:00Z "+line, info), line)
	}
}

// Whatever a container writes, counting and reading agree at every level and in every range.
func FuzzLog(f *testing.F) {
	f.Add([]byte("t {\"level\":\"error\"}\n\nt WARN x\r\nt  at\n"))
	f.Add([]byte("t {\"level\":{\"level\":7}}\nERROR\n\xff"))
	f.Fuzz(func(t *testing.T, log []byte) {
		counts := map[int]int{}
		for level := range 4 {
			more, err := scanLog(bytes.NewReader(log), level, func(line string) bool {
				require.True(t, utf8.ValidString(line))
				require.NotEmpty(t, line)
				require.NotContains(t, line, "\n")
				counts[level]++
				return true
			})
			require.NoError(t, err)
			require.True(t, more)
			require.True(t, level == 0 || counts[level] <= counts[level-1])
		}
	})
}

func TestLogsRefuse(t *testing.T) {
	p := withLogs(t)
	for words, want := range map[string]string{
		"task_id=t1&log_level=loud":              `log_level: "loud" is none of debug, info, warning, error`,
		"task_id=t1&start=-1":                    "start:",
		"task_id=t1&start=x":                     `start: "x" is not an integer from 0 to 2147483647`,
		"task_id=t1&length=1.5":                  "length:",
		"task_id=t1&length=99999999999999999999": "length:",
		"role=guest":                             "task_id: is required",
		"task_id=" + url.QueryEscape("a b"):      "task_id:",
	} {
		p.bad(get(bfia.PathPlatformLog+"?"+words), 400, bfia.CodeBadRequest, want)
	}
	p.bad(get(bfia.PathPlatformLog+"?task_id=nobody"), 404, bfia.CodeNotFound, "has no task nobody")
	p.bad(get(bfia.PathPlatformLog+"?task_id=t1&role=arbiter"), 404, bfia.CodeNotFound, `no part "arbiter"`)
	p.bad(get(bfia.PathPlatformLogLines+"?task_id=t1&log_level=loud"), 400, bfia.CodeBadRequest, "log_level")
}

// Endless lines and endless logs are cut, so that memory and answers stay bounded.
func TestLongLogs(t *testing.T) {
	p := withLogs(t)
	key := activities.LogPrefix("run-host") + "/w/00000001"
	long := "2026-11-23T04:00:07Z ERROR " + strings.Repeat("é", 1<<20)
	require.NoError(t, p.blobs.Put(t.Context(), key,
		strings.NewReader(long+"\n2026-11-23T04:00:08Z ERROR after\n")))
	lines := p.logs("role=host")
	require.Len(t, lines, 3)
	require.Less(t, len(lines[1]), maxLogLine+16)
	require.True(t, strings.HasSuffix(lines[1], "…"))
	require.Equal(t, "2026-11-23T04:00:08Z ERROR after", lines[2])

	line := "2026-11-23T04:00:09Z INFO " + strings.Repeat("x", 1000) + "\n"
	require.NoError(t, p.blobs.Put(t.Context(), key, strings.NewReader(strings.Repeat(line, 10_000))))
	part := p.logs("role=host")
	require.Less(t, len(part), 5000)
	require.Greater(t, len(part), 3000)
	rest := p.logs(fmt.Sprintf("role=host&start=%d", 10_001-5))
	require.Len(t, rest, 5)
}
