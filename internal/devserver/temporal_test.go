//go:build !slim

package devserver

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"hutong/internal/party"
	"hutong/internal/temporalns"
	"hutong/test/testenv"
	"hutong/workflows"
)

// childFolder is the variable that makes the test binary run a server in a process of its own, which a test
// kills.
const childFolder = "HUTONG_TEST_TEMPORAL_FOLDER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		e, err := StartTemporalServer(context.Background(),
			TemporalServerOptions{DataDir: dir, Namespaces: []string{"one"}})
		if err != nil {
			panic(err)
		}
		_, _ = os.Stdout.WriteString(e.Address() + "\n")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func start(t testing.TB, dir string, namespaces ...string) *TemporalServer {
	t.Helper()
	e, err := StartTemporalServer(t.Context(),
		TemporalServerOptions{DataDir: dir, Namespaces: namespaces, Logger: quiet()})
	require.NoError(t, err)
	t.Cleanup(e.Stop)
	return e
}

func dial(t testing.TB, address, namespace string) client.Client {
	t.Helper()
	c, err := client.Dial(client.Options{HostPort: address, Namespace: namespace,
		Logger: sdklog.NewStructuredLogger(quiet())})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func ten(ctx workflow.Context, local bool) (sum int, err error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 10 * time.Second})
	ctx = workflow.WithLocalActivityOptions(ctx,
		workflow.LocalActivityOptions{StartToCloseTimeout: 10 * time.Second})
	for range 10 {
		var n int
		if local {
			err = workflow.ExecuteLocalActivity(ctx, one).Get(ctx, &n)
		} else {
			err = workflow.ExecuteActivity(ctx, one).Get(ctx, &n)
		}
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func one(context.Context) (int, error) { return 1, nil }

// gate waits for a signal, then runs ten activities.
func gate(ctx workflow.Context) (int, error) {
	workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
	return ten(ctx, false)
}

func work(t testing.TB, c client.Client) worker.Worker {
	t.Helper()
	w := worker.New(c, "queue", worker.Options{})
	w.RegisterWorkflow(ten)
	w.RegisterWorkflow(gate)
	w.RegisterActivityWithOptions(one, activity.RegisterOptions{})
	require.NoError(t, w.Start())
	t.Cleanup(func() { w.Stop() })
	return w
}

func TestTemporalServerKeepsHistory(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir, "one")
	func() {
		c := dial(t, e.Address(), "one")
		defer work(t, c).Stop()
		run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "w", TaskQueue: "queue",
			TypedSearchAttributes: temporal.NewSearchAttributes(
				workflows.AttributeJobID.ValueSet("j1"),
				workflows.AttributeRoles.ValueSet([]string{"guest.0", "host.0"})),
		}, ten, false)
		require.NoError(t, err)
		var sum int
		require.NoError(t, run.Get(t.Context(), &sum))
		assert.Equal(t, 10, sum)
		_, err = c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "open", TaskQueue: "queue"},
			gate)
		require.NoError(t, err)
		// Wait until the workflow waits for its signal: an interrupted workflow task is retried only after
		// its timeout of 10 s.
		_, err = c.QueryWorkflow(t.Context(), "open", "", client.QueryTypeStackTrace)
		require.NoError(t, err)
	}()
	e.Stop()
	e.Stop()
	wal, err := os.Stat(dir + "/temporal.db-wal")
	require.NoError(t, err)
	assert.Zero(t, wal.Size(), "Stop writes everything into the database file")

	again := start(t, dir, "one", "two")
	c := dial(t, again.Address(), "one")
	var sum int
	require.NoError(t, c.GetWorkflow(t.Context(), "w", "").Get(t.Context(), &sum))
	assert.Equal(t, 10, sum)
	found, err := c.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{
		Query: workflows.AttributeJobID.GetName() + " = 'j1' AND " +
			workflows.AttributeRoles.GetName() + " = 'host.0'"})
	require.NoError(t, err)
	assert.Len(t, found.Executions, 1)

	work(t, c)
	require.NoError(t, c.SignalWorkflow(t.Context(), "open", "", "go", nil))
	require.NoError(t, c.GetWorkflow(t.Context(), "open", "").Get(t.Context(), &sum))

	two, err := c.WorkflowService().DescribeNamespace(t.Context(),
		&workflowservice.DescribeNamespaceRequest{Namespace: "two"})
	require.NoError(t, err, "a namespace that was added later")
	assert.Equal(t, DefaultRetention, two.Config.WorkflowExecutionRetentionTtl.AsDuration())
}

// TestTemporalServerKilled checks that workflows of a killed server resume in the next one, and that its lock
// is released.
func TestTemporalServerKilled(t *testing.T) {
	dir := t.TempDir()
	child := exec.Command(os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), childFolder+"="+dir)
	child.Stderr = os.Stderr
	stdin, err := child.StdinPipe()
	require.NoError(t, err)
	defer func() { _ = stdin.Close() }()
	stdout, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	buffer := make([]byte, 100)
	n, err := stdout.Read(buffer)
	require.NoError(t, err)
	address := strings.TrimSpace(string(buffer[:n]))

	_, err = StartTemporalServer(t.Context(),
		TemporalServerOptions{DataDir: dir, Namespaces: []string{"one"}, Logger: quiet()})
	assert.ErrorContains(t, err, "another Temporal server uses it")

	_, err = dial(t, address, "one").ExecuteWorkflow(t.Context(),
		client.StartWorkflowOptions{ID: "w", TaskQueue: "queue"}, gate)
	require.NoError(t, err)
	require.NoError(t, child.Process.Kill())
	_ = child.Wait()

	started := time.Now()
	c := dial(t, start(t, dir, "one").Address(), "one")
	work(t, c)
	require.NoError(t, c.SignalWorkflow(t.Context(), "w", "", "go", nil))
	var sum int
	require.NoError(t, c.GetWorkflow(t.Context(), "w", "").Get(t.Context(), &sum))
	assert.Equal(t, 10, sum)
	t.Logf("started after a kill and completed the workflow in %s", time.Since(started))
	assert.Less(t, time.Since(started), time.Minute, "an unfinished workflow task is retried after 10 s, twice at most")
}

func TestTemporalServerRejectsOptions(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	taken := l.Addr().(*net.TCPAddr).Port
	file := t.TempDir() + "/file"
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, c := range []struct {
		name    string
		options TemporalServerOptions
		want    []string
	}{
		{"port", TemporalServerOptions{DataDir: t.TempDir(), Namespaces: []string{"one"}, Port: taken},
			[]string{l.Addr().String()[10:], "--port"}},
		{"UI port", TemporalServerOptions{DataDir: t.TempDir(), Namespaces: []string{"one"}, UIPort: taken},
			[]string{l.Addr().String()[10:], "--ui-port"}},
		{"no namespace", TemporalServerOptions{DataDir: t.TempDir()},
			[]string{"failed to start Temporal: at least one namespace is required"}},
		{"folder", TemporalServerOptions{DataDir: file, Namespaces: []string{"one"}},
			[]string{"data folder", file}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := StartTemporalServer(t.Context(), c.options)
			require.Error(t, err)
			for _, want := range c.want {
				assert.ErrorContains(t, err, want)
			}
		})
	}
}

func TestTemporalServerUI(t *testing.T) {
	port, err := freePort()
	require.NoError(t, err)
	e, err := StartTemporalServer(t.Context(),
		TemporalServerOptions{DataDir: t.TempDir(), Namespaces: []string{"one"}, UIPort: port,
			Logger: quiet()})
	require.NoError(t, err)
	defer e.Stop()
	response, err := http.Get(e.UIAddress() + "/api/v1/namespaces/one")
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	assert.Equal(t, http.StatusOK, response.StatusCode)
	assert.Regexp(t, `"name": ?"one"`, string(body))
}

// TestTemporalServerIsQuiet checks that a healthy server logs nothing.
func TestTemporalServerIsQuiet(t *testing.T) {
	var logged testenv.Buffer
	e, err := StartTemporalServer(t.Context(),
		TemporalServerOptions{DataDir: t.TempDir(), Namespaces: []string{"one"},
			Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	require.NoError(t, err)
	c := dial(t, e.Address(), "one")
	w := worker.New(c, "queue", worker.Options{})
	w.RegisterWorkflow(ten)
	w.RegisterActivity(one)
	require.NoError(t, w.Start())
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: "queue"}, ten, true)
	require.NoError(t, err)
	require.NoError(t, run.Get(t.Context(), nil))
	w.Stop()
	c.Close()
	e.Stop()
	assert.Empty(t, logged.String())
}

func TestEnsureNamespace(t *testing.T) {
	e := start(t, t.TempDir(), "one")
	options := client.Options{HostPort: e.Address(), Logger: sdklog.NewStructuredLogger(quiet())}
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			assert.NoError(t, temporalns.Ensure(t.Context(), options, "late", 7*24*time.Hour))
		})
	}
	group.Wait()
	c := dial(t, e.Address(), "late")
	work(t, c)
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: "queue",
		TypedSearchAttributes: temporal.NewSearchAttributes(workflows.AttributeState.ValueSet("READY")),
	}, ten, true)
	require.NoError(t, err)
	require.NoError(t, run.Get(t.Context(), nil))
	described, err := c.WorkflowService().DescribeNamespace(t.Context(),
		&workflowservice.DescribeNamespaceRequest{Namespace: "late"})
	require.NoError(t, err)
	assert.Equal(t, 7*24*time.Hour, described.Config.WorkflowExecutionRetentionTtl.AsDuration())
	assert.Equal(t, enums.NAMESPACE_STATE_REGISTERED, described.NamespaceInfo.State)

	// Histories are kept as long as results, also in a namespace that exists. A longer retention stays.
	for _, keep := range []struct{ asked, want time.Duration }{
		{30 * 24 * time.Hour, 30 * 24 * time.Hour},
		{24 * time.Hour, 30 * 24 * time.Hour},
		{(&party.Config{}).HistoryRetention(), 100 * 365 * 24 * time.Hour},
	} {
		require.NoError(t, temporalns.Ensure(t.Context(), options, "late", keep.asked))
		described, err := c.WorkflowService().DescribeNamespace(t.Context(),
			&workflowservice.DescribeNamespaceRequest{Namespace: "late"})
		require.NoError(t, err)
		assert.Equal(t, keep.want, described.Config.WorkflowExecutionRetentionTtl.AsDuration())
	}

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err = temporalns.Ensure(ctx, client.Options{HostPort: "127.0.0.1:1", Logger: options.Logger}, "x",
		time.Hour)
	assert.ErrorContains(t, err, "failed to connect to Temporal at 127.0.0.1:1")
}

func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		e, err := StartTemporalServer(b.Context(),
			TemporalServerOptions{DataDir: dir, Namespaces: []string{"one", "two", "three"}, Logger: quiet()})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		started := time.Now()
		e.Stop()
		b.ReportMetric(float64(time.Since(started).Milliseconds()), "ms-stop")
		b.StartTimer()
	}
}

func BenchmarkHundredWorkflows(b *testing.B) {
	for _, local := range []bool{false, true} {
		b.Run(map[bool]string{false: "activities", true: "local"}[local], func(b *testing.B) {
			c := dial(b, start(b, b.TempDir(), "one").Address(), "one")
			work(b, c)
			for b.Loop() {
				var runs []client.WorkflowRun
				for range 100 {
					run, err := c.ExecuteWorkflow(b.Context(),
						client.StartWorkflowOptions{TaskQueue: "queue"}, ten, local)
					require.NoError(b, err)
					runs = append(runs, run)
				}
				for _, run := range runs {
					require.NoError(b, run.Get(b.Context(), nil))
				}
			}
		})
	}
}
