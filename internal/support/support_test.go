package support

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/party"
	"hutong/store"
	"hutong/store/storetest"
)

func TestScrub(t *testing.T) {
	s := newScrubber([]string{"hunter2-hunter2", "hunter2", "abc"})
	for text, want := range map[string]string{
		"a hunter2-hunter2 b hunter2":                  "a *** b ***",
		"abc stays, since it is too short":             "abc stays, since it is too short",
		"postgres://u:p4ss@db:5432/x":                  "postgres://***@db:5432/x",
		"http://proxy/x and mail a@b.example":          "http://proxy/x and mail a@b.example",
		"s3://h:1?username=u&password=geheim&bucket=b": "s3://h:1?username=u&password=***&bucket=b",
		`{"password":"two words","n":1}`:               `{"password":"***","n":1}`,
		"msg=\"token: ht_ABCDEFGHIJKLMNOP\"":           "msg=\"token: ***\"",
		"used ht_ABCDEFGHIJKLMNOP here":                "used ht_*** here",
		"Authorization: Bearer abcdefghijkl":           "Authorization: Bearer ***",
		"eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln":     "eyJ***",
		"api_key: \"\"\napi_key_file: /etc/key":        "api_key: \"\"\napi_key_file: /etc/key",
		"image_pull_secrets: []":                       "image_pull_secrets: []",
		"url: '***'":                                   "url: '***'",
		"-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----\nx": "-----BEGIN PRIVATE KEY-----***" +
			"-----END PRIVATE KEY-----\nx",
		"-----BEGIN EC PRIVATE KEY-----\nMII, and the file ends": "-----BEGIN EC PRIVATE KEY-----***",
	} {
		clean, removed := s.scrub([]byte(text))
		assert.Equal(t, want, string(clean))
		assert.Equal(t, want != text, removed > 0, text)
	}
}

func TestLastLines(t *testing.T) {
	for lines, want := range map[int]string{1: "c\n", 2: "b\nc\n", 3: "a\nb\nc\n", 9: "a\nb\nc\n"} {
		assert.Equal(t, want, string(lastLines([]byte("a\nb\nc\n"), lines)))
	}
	assert.Empty(t, lastLines(nil, 3))
}

// read returns the files of an archive.
func read(t *testing.T, a Archive) map[string]string {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, a.Write(&out))
	zipped, err := gzip.NewReader(&out)
	require.NoError(t, err)
	files := map[string]string{}
	archive := tar.NewReader(zipped)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		require.NoError(t, err)
		data, err := io.ReadAll(archive)
		require.NoError(t, err)
		files[strings.TrimPrefix(header.Name, a.Folder+"/")] = string(data)
	}
}

// TestArchiveHoldsNoSecret sets every secret of the configuration, writes all of them, tokens and rows of
// data to where Hutong or an algorithm might, and looks for them in the archive.
func TestArchiveHoldsNoSecret(t *testing.T) {
	metrics := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz":
			_, _ = fmt.Fprintln(w, "ok")
		case "/readyz":
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = fmt.Fprintln(w, "postgres://hutong:s3cret-0@db is away")
		case "/metrics":
			_, _ = fmt.Fprintln(w, "hutong_jobs 3")
		}
	}))
	defer metrics.Close()
	dir := t.TempDir()
	log := filepath.Join(dir, "api.log")
	address := storetest.SQLite(t)
	cfg, err := party.Load("", []string{"HUTONG_NODE_ID=JG01", "HUTONG_DATA_DIR=" + dir,
		"HUTONG_DATABASE_URL=" + address, "HUTONG_OPS_LISTEN=" + metrics.Listener.Addr().String(),
		"HUTONG_STORAGE_URL=s3://127.0.0.1:1?username=hutong&password=s3cret-1&bucket=b",
		"HUTONG_TEMPORAL_API_KEY=s3cret-2", "HUTONG_TEMPORAL_ADDRESS=127.0.0.1:1",
		"HUTONG_PROXY_URL=http://u:s3cret-3@127.0.0.1:1", "HUTONG_RUNNER_DOCKER_ENABLED=false",
		"HUTONG_PARTNERS_TLS_CERT_FILE=", "HUTONG_SECURITY_MODE=open"})
	require.NoError(t, err)
	cfg.Notifications.Receivers = []party.ReceiverConfig{{Name: "duty", Webhook: party.WebhookConfig{
		URL: "https://127.0.0.1:1/services/T1/xs3cret-4567"}}}
	assert.Subset(t, cfg.SecretValues(), []string{"s3cret-1", "s3cret-2", "s3cret-3", "xs3cret-4567"})

	db := storetest.Open(t, address)
	const row = "4711,0.123,B" // of somebody's data, which an algorithm wrote into its traceback and log
	at := time.Now()
	for i, f := range []bfia.Failure{
		{Kind: bfia.FailedExit, ExitCode: 3, Task: "boosting", Role: "host.0", Message: "bad value in " + row,
			Log: []string{row}},
		{Kind: bfia.FailedImage, Task: "intersection", Message: "no image bank/psi:1"},
	} {
		id := fmt.Sprint("job", i)
		require.NoError(t, db.CreateJob(t.Context(), store.Job{JobID: id, State: bfia.JobReady,
			Roles: []string{"host.0"}, InitiatorNode: "JG01", SchedulerNode: "JG01", CreatedAt: at}, nil))
		require.NoError(t, db.UpdateJob(t.Context(), id, bfia.JobFinished, "", at,
			store.EndsAs(bfia.OutcomeFailed)))
		require.NoError(t, db.SetJobFailure(t.Context(), id, &f))
	}
	require.NoError(t, os.WriteFile(log, []byte("level=INFO msg=old\n"+
		"level=ERROR msg=\"failed to reach s3: password=s3cret-1\" key=s3cret-2 at=/xs3cret-4567\n"+
		"level=INFO msg=login header=\"Bearer ht_ABCDEFGHIJKLMNOPQRST\"\n"), 0o600))

	archive := Collect(t.Context(), Options{Config: cfg, Version: "hutong 1.2.3", Logs: []string{log,
		"/no/such/file"},
		Environ: []string{"HUTONG_TEMPORAL_API_KEY=s3cret-2", "OTHER=s3cret-9"}, Lines: 2, Failures: 5,
		Time: at})
	files := read(t, archive)
	for name, content := range files {
		for _, secret := range []string{"s3cret", "ABCDEFGHIJKLMNOPQRST", row} {
			assert.NotContains(t, content, secret, name)
		}
	}
	for name, want := range map[string]string{
		"CONTENTS.txt":       "log-2.log: the last lines of /no/such/file, at most 2 (missing: open /no/such/file",
		"version.txt":        "hutong 1.2.3",
		"configuration.yaml": "api_key: '***'",
		"environment.txt":    "HUTONG_TEMPORAL_API_KEY\n",
		"doctor.json":        `"name": "`,
		"state.json":         `"FINISHED": 2`,
		"failures.json":      `"exit_code": 3`,
		"healthz.txt":        "ok",
		"readyz.txt":         "503 Service Unavailable",
		"metrics.txt":        "hutong_jobs 3",
		"log-1.log":          "level=INFO msg=login",
	} {
		assert.Contains(t, files[name], want, name)
	}
	assert.Contains(t, files["failures.json"], "no image bank/psi:1")
	assert.NotContains(t, files["log-1.log"], "old", "only the last 2 lines")
	assert.NotContains(t, files["environment.txt"], "OTHER")
}

// TestPartyThatIsDown collects what is left of a party whose configuration is invalid.
func TestPartyThatIsDown(t *testing.T) {
	bin := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(bin, "journalctl"),
		[]byte("#!/bin/sh\necho \"$@\"\necho secret=x1\n"),
		0o700))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	archive := Collect(t.Context(), Options{ConfigError: errors.New("listn: unknown field"),
		Version: "hutong 1.2.3",
		Units:   "hutong-*", Lines: 10, Time: time.Now()})
	files := read(t, archive)
	assert.Contains(t, files["CONTENTS.txt"], "missing: listn: unknown field")
	assert.Contains(t, files["CONTENTS.txt"],
		"state.json: how many jobs are in which state, and the runners "+
			"(missing: the configuration is invalid)")
	assert.Contains(t, files["journal.log"], "--unit hutong-* --lines 10")
	assert.Contains(t, files["journal.log"], "secret=***")
}
