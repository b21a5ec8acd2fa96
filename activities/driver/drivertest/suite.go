// Package drivertest holds the test suite that every driver must pass, and helpers for the drivers' own
// tests.
package drivertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
)

// Fixture holds a driver under test and the facts about it that the suite depends on.
type Fixture struct {
	Driver driver.Driver

	// Another returns another driver for the same party and runner.
	Another func(t *testing.T) driver.Driver

	// Spec returns a spec of the test program with arguments, under a new name.
	Spec func(args ...string) driver.Spec

	// MakeUnstartable changes a spec to a program that cannot be started.
	MakeUnstartable func(spec *driver.Spec)

	// Share lets a container use a directory of this machine, and returns the directory's path in the
	// container.
	Share func(d driver.Driver, spec *driver.Spec, dir string) string

	// Process and Kubernetes select the few assertions that differ between devices.
	Process, Kubernetes bool
}

var tests = []struct {
	name string
	run  func(t *testing.T, ctx context.Context, d Fixture)
}{
	{"RunToCompletion", testRunToCompletion},
	{"KilledBySignal", testKilledBySignal},
	{"Idempotence", testIdempotence},
	{"UnknownName", testUnknownName},
	{"InvalidSpec", testInvalidSpec},
	{"UnstartableProgram", testUnstartableProgram},
	{"WaitBeforeStart", testWaitBeforeStart},
	{"WaitHonoursContext", testWaitHonoursContext},
	{"Environment", testEnvironment},
	{"Mounts", testMounts},
	{"List", testList},
	{"RunnerID", testRunnerID},
	{"Capacity", testCapacity},
	{"Follow", testFollow},
	{"FollowShortContainers", testFollowShortContainers},
	{"LargeOutput", testLargeOutput},
	{"LongLines", testLongLines},
	{"Unfinished", testUnfinished},
	{"LogFiles", testLogFiles},
	{"StopGently", testStopGently},
	{"StopByForce", testStopByForce},
	{"StopBeforeStart", testStopBeforeStart},
	{"ConcurrentStopAndStart", testConcurrentStopAndStart},
	{"RemoveWhileRunning", testRemoveWhileRunning},
	{"Usage", testUsage},
	{"NothingOutlivesTheCommand", testNothingOutlivesTheCommand},
}

// testTimeout bounds each test of the suite.
const testTimeout = 3 * time.Minute

// Run runs the suite. It opens a new fixture for each test.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	t.Parallel()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
			t.Cleanup(cancel)
			test.run(t, ctx, open(t))
		})
	}
}

func testRunToCompletion(t *testing.T, ctx context.Context, d Fixture) {
	for code, reason := range map[string]string{"0": "", "3": "exited with code 3"} {
		spec := d.Spec("print", "out", "printerr", "err", "exit", code)
		before := time.Now().Add(-time.Second)
		Launch(t, ctx, d.Driver, spec)
		exit := Await(t, ctx, d.Driver, spec.Name)
		require.Equal(t, code, fmt.Sprint(exit.Code))
		require.Equal(t, reason, exit.Reason)
		require.False(t, exit.OOMKilled)
		inOrder := before.Before(exit.StartedAt) && !exit.FinishedAt.Before(exit.StartedAt) &&
			exit.FinishedAt.Before(time.Now().Add(time.Second))
		require.True(t, inOrder, "%+v", exit)
		require.ElementsMatch(t, []string{"out", "err"}, Logs(t, ctx, d.Driver, spec.Name, false))
		require.NoError(t, d.Driver.Remove(ctx, spec.Name))
		_, err := d.Driver.Wait(ctx, spec.Name)
		require.ErrorIs(t, err, driver.ErrNotFound)
	}
}

func testKilledBySignal(t *testing.T, ctx context.Context, d Fixture) {
	spec := d.Spec("ignoreterm", "print", "ready", "forever")
	Launch(t, ctx, d.Driver, spec)
	AwaitLine(t, ctx, d.Driver, spec.Name, "ready")
	require.NoError(t, d.Driver.Stop(ctx, spec.Name, 0))
	exit := Await(t, ctx, d.Driver, spec.Name)
	require.Equal(t, 137, exit.Code)
	require.Equal(t, "killed by signal 9 (SIGKILL)", exit.Reason)
	require.False(t, exit.OOMKilled)
}

// testIdempotence makes all calls several times at once, by two drivers.
func testIdempotence(t *testing.T, ctx context.Context, d Fixture) {
	dir := TempDir(t)
	other := d.Another(t)
	both := func(do func(r driver.Driver) error) {
		t.Helper()
		var group sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			group.Go(func() { errs[i] = do([]driver.Driver{d.Driver, other}[i%2]) })
		}
		group.Wait()
		require.NoError(t, errors.Join(errs...))
	}
	for range 3 { // the program is short enough to end before the last start
		spec := d.Spec()
		file := d.Share(d.Driver, &spec, dir) + "/" + spec.Name
		spec.Command = append(spec.Command, "append", file, "x", "exit", "4")
		var mu sync.Mutex
		ids := map[string]bool{}
		both(func(r driver.Driver) error {
			id, err := r.Create(ctx, spec)
			mu.Lock()
			defer mu.Unlock()
			ids[id] = true
			return err
		})
		require.Len(t, ids, 1)
		both(func(r driver.Driver) error { return r.Start(ctx, spec.Name) })
		both(func(r driver.Driver) error {
			exit, err := r.Wait(ctx, spec.Name)
			if err == nil && exit.Code != 4 {
				err = fmt.Errorf("exit code %d", exit.Code)
			}
			return err
		})
		both(func(r driver.Driver) error { return r.Start(ctx, spec.Name) })
		both(func(r driver.Driver) error { return r.Stop(ctx, spec.Name, time.Second) })
		id, err := other.Create(ctx, spec)
		require.NoError(t, err)
		require.Contains(t, ids, id)
		require.Equal(t, 4, Await(t, ctx, other, spec.Name).Code)
		ran, err := os.ReadFile(filepath.Join(dir, spec.Name))
		require.NoError(t, err)
		require.Equal(t, "x", string(ran), "it ran exactly once")
		both(func(r driver.Driver) error { return r.Remove(ctx, spec.Name) })
		require.ErrorIs(t, d.Driver.Start(ctx, spec.Name), driver.ErrNotFound)
	}
}

func testUnknownName(t *testing.T, ctx context.Context, d Fixture) {
	name := "nobody-" + rand.Text()
	require.ErrorIs(t, d.Driver.Start(ctx, name), driver.ErrNotFound)
	_, err := d.Driver.Wait(ctx, name)
	require.ErrorIs(t, err, driver.ErrNotFound)
	for _, follow := range []bool{false, true} {
		require.ErrorIs(t, d.Driver.Logs(ctx, name, follow, new(bytes.Buffer)), driver.ErrNotFound)
	}
	require.NoError(t, d.Driver.Stop(ctx, name, time.Second))
	require.NoError(t, d.Driver.Remove(ctx, name))
}

func testInvalidSpec(t *testing.T, ctx context.Context, d Fixture) {
	secret := "secret value"
	for want, change := range map[string]func(s *driver.Spec){
		"name":  func(s *driver.Spec) { s.Name = "../x" },
		"A=B":   func(s *driver.Spec) { s.Env = map[string]string{"A=B": secret} },
		"UTF-8": func(s *driver.Spec) { s.Env = map[string]string{"x": secret + "\xff"} },
		"NUL":   func(s *driver.Spec) { s.Env = map[string]string{"config.token": secret + "\x00"} },
		"config.large": func(s *driver.Spec) {
			s.Env = map[string]string{"config.large": strings.Repeat(secret, 12000)}
		},
		"all variables": func(s *driver.Spec) {
			s.Env = map[string]string{}
			for i := range 20 {
				s.Env[fmt.Sprint("large.", i)] = strings.Repeat("x", 120_000)
			}
		},
		"absolute":     func(s *driver.Spec) { s.Mounts = []driver.Mount{{Source: "relative", Target: "x"}} },
		"storage root": func(s *driver.Spec) { s.Mounts = []driver.Mount{{Source: "/tmp", Target: "../x"}} },
		"within": func(s *driver.Spec) {
			s.Mounts = []driver.Mount{{Source: "/tmp", Target: "a"}, {Source: "/tmp", Target: "a/b"}}
		},
		"does not exist|no such file|cannot access the files": func(s *driver.Spec) {
			s.Mounts = []driver.Mount{{Source: "/not/there", Target: "a"}}
		},
		"cores": func(s *driver.Spec) { s.Resources.CPUMilli = -1 },
	} {
		spec := d.Spec("exit", "0")
		change(&spec)
		_, err := d.Driver.Create(ctx, spec)
		require.Error(t, err, want)
		require.True(t, driver.IsNonRetryable(err), "%s: %v", want, err)
		require.Regexp(t, want, err.Error())
		require.NotContains(t, err.Error(), secret)
	}
	containers, err := d.Driver.List(ctx)
	require.NoError(t, err)
	require.Empty(t, containers)
}

func testUnstartableProgram(t *testing.T, ctx context.Context, d Fixture) {
	spec := d.Spec()
	d.MakeUnstartable(&spec)
	_, err := d.Driver.Create(ctx, spec)
	require.NoError(t, err)
	if d.Kubernetes { // a cluster detects it later
		require.NoError(t, d.Driver.Start(ctx, spec.Name))
		Await(t, ctx, d.Driver, spec.Name)
	}
	for range 2 {
		err := d.Driver.Start(ctx, spec.Name)
		require.ErrorContains(t, err, "could not be started")
		require.True(t, driver.IsNonRetryable(err), "%v", err)
		t.Log(err)
	}
	exit := Await(t, ctx, d.Another(t), spec.Name)
	require.Contains(t, []int{126, 127}, exit.Code)
	require.Contains(t, exit.Reason, "could not be started")
	require.True(t, exit.StartedAt.IsZero())
	require.Empty(t, Logs(t, ctx, d.Driver, spec.Name, true))
	require.NoError(t, d.Driver.Stop(ctx, spec.Name, time.Second))
	require.NoError(t, d.Driver.Remove(ctx, spec.Name))
}

func testWaitBeforeStart(t *testing.T, ctx context.Context, d Fixture) {
	spec := d.Spec("print", "hello", "exit", "5")
	_, err := d.Driver.Create(ctx, spec)
	require.NoError(t, err)
	var group sync.WaitGroup
	group.Go(func() {
		exit, err := d.Another(t).Wait(ctx, spec.Name)
		if err != nil || exit.Code != 5 {
			t.Errorf("%+v, %v", exit, err)
		}
	})
	var log bytes.Buffer
	group.Go(func() {
		if err := d.Another(t).Logs(ctx, spec.Name, true, &log); err != nil {
			t.Error(err)
		}
	})
	require.NoError(t, d.Driver.Start(ctx, spec.Name))
	group.Wait()
	require.Equal(t, []string{"hello"}, Lines(t, log.String()))
}

func testWaitHonoursContext(t *testing.T, ctx context.Context, d Fixture) {
	spec := d.Spec("forever")
	_, err := d.Driver.Create(ctx, spec)
	require.NoError(t, err)
	for range 2 { // created, then running
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		_, err = d.Driver.Wait(short, spec.Name)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		err = d.Driver.Logs(short, spec.Name, true, new(bytes.Buffer))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		cancel()
		require.NoError(t, d.Driver.Start(ctx, spec.Name))
	}
}

func testEnvironment(t *testing.T, ctx context.Context, d Fixture) {
	large := "runtime.component.parameter.large"
	env := map[string]string{
		"config.self_role": "guest.0",
		"lines":            "one\ntwo\n",
		"empty":            "",
		"国密.参数":            "互通 \U0001F600 \u2028",
		"quotes":           `{"a":"b='c' $HOME"}`,
		large:              strings.Repeat("x", 128<<10-1-1-len(large)),
		"config.token":     "secret-" + rand.Text(),
	}
	for i := range 14 { // together just below the limit
		env[fmt.Sprint("bulk.", i)] = strings.Repeat("b", 130_000)
	}
	spec := d.Spec("env")
	spec.Env = env
	if d.Kubernetes {
		_, err := d.Driver.Create(ctx, spec)
		require.ErrorContains(t, err, "printable ASCII")
		require.True(t, driver.IsNonRetryable(err))
		delete(env, "国密.参数")
	}
	Launch(t, ctx, d.Driver, spec)
	require.Equal(t, 0, Await(t, ctx, d.Driver, spec.Name).Code)
	got := map[string]bool{}
	for _, line := range Logs(t, ctx, d.Driver, spec.Name, false) {
		got[line] = true
	}
	want := maps.Clone(env)
	if d.Process {
		want["HOME"] = filepath.Dir(d.Driver.StorageRoot(spec.Name))
		want["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
		require.Len(t, got, len(want), "no other variables")
	}
	for name, value := range want {
		require.Contains(t, got, fmt.Sprintf("%q %d %x", name, len(value), sha256.Sum256([]byte(value))),
			name)
	}
}

func testMounts(t *testing.T, ctx context.Context, d Fixture) {
	if d.Kubernetes {
		t.Skip("pods cannot access the files of this machine, see InvalidSpec")
	}
	in, out := TempDir(t), TempDir(t)
	require.NoError(t, os.WriteFile(filepath.Join(in, "data_0"), []byte("rows\n"), 0o644))
	spec := d.Spec()
	root := d.Driver.StorageRoot(spec.Name)
	spec.Mounts = []driver.Mount{
		{Source: in, Target: "ns/in", ReadOnly: true},
		{Source: out, Target: "guest-互通/out"},
	}
	spec.Command = append(spec.Command, "cat", root+"/ns/in/data_0", "append", root+"/guest-互通/out/data_0",
		"result", "append", d.Driver.LogPath(spec.Name)+"/own.log", "words")
	if !d.Process {
		spec.Command = append(spec.Command, "cannotappend", root+"/ns/in/data_0", "cannotappend",
			root+"/ns/in/new")
	}
	Launch(t, ctx, d.Driver, spec)
	exit := Await(t, ctx, d.Driver, spec.Name)
	require.Equal(t, []string{"rows"}, Logs(t, ctx, d.Driver, spec.Name, false))
	require.Equal(t, 0, exit.Code)
	require.NoError(t, d.Driver.Remove(ctx, spec.Name))
	result, err := os.ReadFile(filepath.Join(out, "data_0"))
	require.NoError(t, err, "the mounted data outlives the container")
	require.Equal(t, "result", string(result))
	require.FileExists(t, filepath.Join(in, "data_0"))
}

func testList(t *testing.T, ctx context.Context, d Fixture) {
	want := map[string]driver.State{}
	ids := map[string]string{}
	add := func(state driver.State, args ...string) string {
		spec := d.Spec(args...)
		spec.Labels = map[string]string{"task_id": "task of " + spec.Name, "job_id": "1"}
		id, err := d.Driver.Create(ctx, spec)
		require.NoError(t, err)
		want[spec.Name], ids[spec.Name] = state, id
		return spec.Name
	}
	add(driver.Created, "forever")
	require.NoError(t, d.Driver.Start(ctx, add(driver.Running, "forever")))
	ended := add(driver.Exited, "exit", "0")
	require.NoError(t, d.Driver.Start(ctx, ended))
	Await(t, ctx, d.Driver, ended)
	stopped := add(driver.Exited, "forever")
	require.NoError(t, d.Driver.Stop(ctx, stopped, 0))
	containers, err := d.Another(t).List(ctx)
	require.NoError(t, err)
	require.Len(t, containers, len(want))
	for _, c := range containers {
		require.Equal(t, want[c.Name], c.State, c.Name)
		require.Equal(t, map[string]string{"task_id": "task of " + c.Name, "job_id": "1"}, c.Labels)
		require.WithinDuration(t, time.Now(), c.CreatedAt, time.Minute)
		if c.Name != stopped {
			require.Equal(t, ids[c.Name], c.ID)
		}
	}
}

func testRunnerID(t *testing.T, ctx context.Context, d Fixture) {
	id, err := d.Driver.RunnerID(ctx)
	require.NoError(t, err)
	require.NotEmpty(t, id)
	again, err := d.Another(t).RunnerID(ctx)
	require.NoError(t, err)
	require.Equal(t, id, again)
}

// testCapacity checks the capacity of this machine. A remote Docker Engine would not report the disk.
func testCapacity(t *testing.T, ctx context.Context, d Fixture) {
	c, err := d.Driver.Capacity(ctx)
	require.NoError(t, err)
	require.Positive(t, c.CPUMilli)
	require.Positive(t, c.Memory)
	require.GreaterOrEqual(t, c.Disk, c.DiskFree)
	if d.Driver.Device() == "process" {
		require.LessOrEqual(t, c.CPUMilli, int64(runtime.NumCPU())*1000)
		require.Positive(t, c.DiskFree)
	}
}
