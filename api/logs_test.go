package api

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"hutong/activities"
	"hutong/activities/logline"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/blob"
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
		require.JSONEq(t, fmt.Sprintf(`{"num":%d,"complete":false,"attempt":1,"unfinished":[]}`, want),
			string(r.Data))
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
	require.JSONEq(t, `{"num":0,"complete":false,"attempt":1,"unfinished":[]}`, string(r.Data))

	// The log is whole once the container's exit is known, which comes after its callback.
	key := store.TaskKey{JobID: "j1", Name: first, Role: "host"}
	require.NoError(t, p.store.EndTask(t.Context(), key, "t1", bfia.TaskSuccess, "", time.Now()))
	require.JSONEq(t, `{"num":1,"complete":false,"attempt":1,"unfinished":[]}`,
		string(p.good(get(bfia.PathPlatformLogLines+"?task_id=t1&role=host")).Data))
	require.NoError(t, p.store.SetTaskExit(t.Context(), key, 1, 0, "", time.Now()))
	require.JSONEq(t, `{"num":1,"complete":true,"attempt":1,"unfinished":[]}`,
		string(p.good(get(bfia.PathPlatformLogLines+"?task_id=t1&role=host")).Data))
	require.JSONEq(t, `{"num":7,"complete":false,"attempt":1,"unfinished":[]}`,
		string(p.good(get(bfia.PathPlatformLogLines+"?task_id=t1")).Data))
}

// Whatever a container writes, each line is whole, valid and not empty.
func FuzzLog(f *testing.F) {
	f.Add([]byte("t {\"level\":\"error\"}\n\nt WARN x\r\nt  at\n"))
	f.Add([]byte("t {\"level\":{\"level\":7}}\nERROR\n\xff"))
	f.Fuzz(func(t *testing.T, log []byte) {
		more, err := scanLog(bytes.NewReader(log), &logline.Classifier{},
			func(line string, _ logline.Level) bool {
				require.True(t, utf8.ValidString(line))
				require.NotEmpty(t, line)
				require.NotContains(t, line, "\n")
				return true
			})
		require.NoError(t, err)
		require.True(t, more)
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
		"task_id=t1&attempt=0":                   "attempt:",
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

// putLog stores a chunk of a container's log.
func (p *party) putLog(container string, chunk int, lines ...string) {
	p.t.Helper()
	require.NoError(p.t, p.blobs.Put(p.t.Context(),
		fmt.Sprintf("%s/w/%08d", activities.LogPrefix(container), chunk),
		strings.NewReader(strings.Join(lines, "\n")+"\n")))
}

// TestLogLevelsOfUsualFormats reads, through the API, the errors of a log that several loggers wrote, with a
// traceback.
func TestLogLevelsOfUsualFormats(t *testing.T) {
	p := withLogs(t)
	errors := []string{
		"2026-11-23T04:01:00.000000000Z 2024-11-22 06:36:01,002|alice|ERROR|secretflow|psi.py:88| key column not found",
		"2026-11-23T04:01:00.100000000Z Traceback (most recent call last):",
		"2026-11-23T04:01:00.100000000Z   File \"psi.py\", line 88, in run",
		"2026-11-23T04:01:00.100000000Z KeyError: 'key'",
		"2026-11-23T04:01:00.200000000Z E1122 06:36:01.002123 139 psi.cc:88] no such column",
		"2026-11-23T04:01:00.300000000Z {\"level\":50,\"msg\":\"pino\"}",
		"2026-11-23T04:01:00.400000000Z \x1b[31mERROR\x1b[0m coloured",
		"2026-11-23T04:01:00.500000000Z terminate called after throwing an instance of 'std::runtime_error'",
		"2026-11-23T04:01:00.500000000Z   what():  no such column",
	}
	p.putLog("run-host", 1,
		append([]string{"2026-11-23T04:00:59.000000000Z 2024-11-22 06:36:01.002 | INFO     | psi:run:3 - ERROR"},
			append(errors, "2026-11-23T04:01:09.000000000Z [2024-11-22 06:36:01.002] [info] done")...)...)
	require.Equal(t, append([]string{"2026-11-23T04:00:06Z ERROR host"}, errors...),
		p.logs("role=host&log_level=error"))
	require.Len(t, p.logs("role=host"), len(errors)+3)
}

// TestLogsOfEachAttempt reads the logs of both attempts of a task, by the attempt's number and by its task
// id.
func TestLogsOfEachAttempt(t *testing.T) {
	p := withLogs(t)
	_, err := p.store.StartTask(t.Context(), "j1", first, "t1-2", 2, time.Now())
	require.NoError(t, err)
	for _, role := range []string{"guest", "host"} {
		require.NoError(t, p.store.SetTaskContainer(t.Context(),
			store.TaskKey{JobID: "j1", Name: first, Role: role}, 2, "h", "again-"+role, "c"))
		p.putLog("again-"+role, 0, "2026-11-23T05:00:00Z the second attempt of "+role)
	}

	second := []string{"2026-11-23T05:00:00Z the second attempt of host"}
	firstLog := []string{"2026-11-23T04:00:06Z ERROR host"}
	for query, want := range map[string][]string{
		"task_id=t1-2&role=host":             second,
		"task_id=t1-2&role=host.0&attempt=2": second,
		"task_id=t1&role=host&attempt=2":     second,
		"task_id=t1&role=host":               firstLog,
		"task_id=t1-2&role=host&attempt=1":   firstLog,
		"task_id=t1&role=host&attempt=1":     firstLog,
	} {
		var got struct{ Data string }
		p.good(get(bfia.PathPlatformLog + "?" + query)).into(&got)
		require.Equal(t, want, strings.Split(got.Data, "\n"), query)
	}
	for query, want := range map[string]string{
		"task_id=t1-2":           `{"num":2,"complete":false,"attempt":2,"unfinished":[]}`,
		"task_id=t1-2&attempt=1": `{"num":7,"complete":true,"attempt":1,"unfinished":[]}`,
		"task_id=t1":             `{"num":7,"complete":true,"attempt":1,"unfinished":[]}`,
	} {
		require.JSONEq(t, want, string(p.good(get(bfia.PathPlatformLogLines+"?"+query)).Data), query)
	}
	p.bad(get(bfia.PathPlatformLog+"?task_id=t1&attempt=3"), 404, bfia.CodeNotFound,
		"attempt: task "+first+" of job j1 has no attempt 3 at")
	p.bad(get(bfia.PathPlatformLog+"?task_id=t1&attempt=3"), 404, bfia.CodeNotFound, "its latest is 2")
	p.bad(get(bfia.PathPlatformLog+"?task_id=t1&attempt=1&role=arbiter"), 404, bfia.CodeNotFound, "role:")
}

// TestUnfinishedLine returns the newest state of a progress bar, apart from the lines, until its part ends.
func TestUnfinishedLine(t *testing.T) {
	p := withLogs(t)
	bar := activities.LogPrefix("run-host") + "/w/" + activities.UnfinishedLine
	require.NoError(t, p.blobs.Put(t.Context(), bar,
		strings.NewReader("2026-11-23T04:00:07Z  33%|███ | 1/3\n")))
	count := func(query string) string {
		return string(p.good(get(bfia.PathPlatformLogLines + "?task_id=t1&role=host&" + query)).Data)
	}
	require.JSONEq(t,
		`{"num":1,"complete":false,"attempt":1,"unfinished":["2026-11-23T04:00:07Z  33%|███ | 1/3"]}`, count(""))
	require.JSONEq(t, `{"num":1,"complete":false,"attempt":1,"unfinished":[]}`, count("log_level=error"))
	require.Equal(t, []string{"2026-11-23T04:00:06Z ERROR host"}, p.logs("role=host"))
	key := store.TaskKey{JobID: "j1", Name: first, Role: "host"}
	require.NoError(t, p.store.EndTask(t.Context(), key, "t1", bfia.TaskSuccess, "", time.Now()))
	require.NoError(t, p.store.SetTaskExit(t.Context(), key, 1, 0, "", time.Now()))
	require.JSONEq(t, `{"num":1,"complete":true,"attempt":1,"unfinished":[]}`, count(""))
}

// countingStore counts reads.
type countingStore struct {
	blob.Store
	gets atomic.Int64
}

func (s *countingStore) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	s.gets.Add(1)
	return s.Store.Get(ctx, key)
}

// TestLongLogIsReadOnce reads a log of many chunks again and again, as a client does that follows it. The
// server reads the last chunk only, and what the client asks for.
func TestLongLogIsReadOnce(t *testing.T) {
	const chunks, perChunk = 40, 50
	storage, err := blob.Open(t.Context(), "file://"+t.TempDir())
	require.NoError(t, err)
	counting := &countingStore{Store: storage}
	var all []string
	for i := range chunks {
		var lines []string
		for j := range perChunk {
			level := []string{"DEBUG", "INFO", "WARNING", "ERROR"}[(i+j)%4]
			lines = append(lines, fmt.Sprintf("2026-11-23T04:00:00.%09dZ %s line %d", i*perChunk+j, level, j),
				"  its second line")
		}
		// An entry that continues in the next chunk.
		lines = append(lines, "2026-11-23T04:00:00Z ERROR last")
		all = append(all, lines...)
		require.NoError(t, storage.Put(t.Context(), fmt.Sprintf("%s/w/%08d", activities.LogPrefix("c"), i),
			strings.NewReader(strings.Join(lines, "\n")+"\n")))
	}
	var index logIndex
	read := func(level logline.Level, start, length int) (lines []string) {
		log, err := activities.OpenLog(t.Context(), counting, "c")
		require.NoError(t, err)
		_, err = (&logReader{log, &index}).read(t.Context(), level, start, func(line string) bool {
			lines = append(lines, line)
			return len(lines) < length
		})
		require.NoError(t, err)
		return lines
	}
	for level := logline.Debug; level <= logline.Error; level++ {
		whole := read(level, 0, 1<<30)
		if level == logline.Debug {
			require.Equal(t, all, whole)
		}
		for start := 0; start < len(whole); start += 37 {
			require.Equal(t, whole[start:min(start+10, len(whole))], read(level, start, 10),
				"level %d from %d", level, start)
		}
	}
	counting.gets.Store(0)
	log, err := activities.OpenLog(t.Context(), counting, "c")
	require.NoError(t, err)
	n, err := (&logReader{log, &index}).count(t.Context(), logline.Debug)
	require.NoError(t, err)
	require.Equal(t, len(all), n)
	require.Len(t, read(logline.Debug, n-1, 10), 1)
	require.EqualValues(t, 2, counting.gets.Load(), "the last chunk, for the count and for the line")
}

// BenchmarkFollowLongLog counts the lines of a log of 64 MiB, as each poll of a client does that follows it.
func BenchmarkFollowLongLog(b *testing.B) {
	storage, err := blob.Open(b.Context(), "file://"+b.TempDir())
	require.NoError(b, err)
	line := "2026-11-23T04:00:00.000000000Z 2026-11-23 04:00:00,001|alice|INFO|secretflow|psi.py:88| read rows\n"
	chunk := strings.Repeat(line, 256<<10/len(line))
	for i := range 256 {
		require.NoError(b, storage.Put(b.Context(), fmt.Sprintf("%s/w/%08d", activities.LogPrefix("c"), i),
			strings.NewReader(chunk)))
	}
	for name, shared := range map[string]bool{"first": false, "again": true} {
		b.Run(name, func(b *testing.B) {
			index := &logIndex{}
			for b.Loop() {
				if !shared {
					index = &logIndex{}
				}
				log, err := activities.OpenLog(b.Context(), storage, "c")
				require.NoError(b, err)
				_, err = (&logReader{log, index}).count(b.Context(), logline.Info)
				require.NoError(b, err)
			}
		})
	}
}
