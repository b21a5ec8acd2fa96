package runner_test

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

	"hutong/activities/runner"
)

// A device is what the suite needs to know of one.
type device struct {
	runner runner.Driver
	again  func(t *testing.T) runner.Driver // another value for the same party and host
	spec   func(args ...string) runner.Spec // of the test program
	bad    func(spec *runner.Spec)          // makes it a program that cannot be started
	// share lets a program see a directory of this machine, and tells where.
	share   func(r runner.Driver, spec *runner.Spec, dir string) string
	process bool
	k8s     bool
}

var devices = map[string]func(t *testing.T) device{"docker": dockerDevice, "process": processDevice, "k8s": k8sDevice}

// shareMount shares by a mount.
func shareMount(r runner.Driver, spec *runner.Spec, dir string) string {
	spec.Mounts = []runner.Mount{{Source: dir, Target: "out"}}
	return r.StorageRoot(spec.Name) + "/out"
}

func dockerDevice(t *testing.T) device {
	needDocker(t)
	opts := runner.DockerOptions{NodeID: "T" + rand.Text(), HostNetwork: true}
	again := func(t *testing.T) runner.Driver {
		r, err := runner.NewDocker(opts)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, r.Close()) })
		return r
	}
	return device{
		runner: cleaned(t, again(t)), again: again,
		spec: func(args ...string) runner.Spec {
			return runner.Spec{Name: "test-" + rand.Text(), Image: prog.image, Command: append([]string{"/prog"}, args...)}
		},
		bad:   func(spec *runner.Spec) { spec.Command = []string{"/not there"} },
		share: shareMount,
	}
}

func processDevice(t *testing.T) device {
	broken := filepath.Join(t.TempDir(), "broken")
	require.NoError(t, os.WriteFile(broken, []byte("no program"), 0o700))
	opts := processOptions(t, broken)
	again := func(t *testing.T) runner.Driver {
		r, err := runner.NewProcess(opts)
		require.NoError(t, err)
		return r
	}
	return device{
		runner: cleaned(t, again(t)), again: again, process: true,
		spec: func(args ...string) runner.Spec {
			return runner.Spec{Name: "test-" + rand.Text(), Command: append([]string{prog.path}, args...)}
		},
		bad:   func(spec *runner.Spec) { spec.Command = []string{broken} },
		share: shareMount,
	}
}

// cleaned removes all runs at the end, and fails if that is not all.
func cleaned(t *testing.T, r runner.Driver) runner.Driver {
	t.Cleanup(func() {
		ctx := context.Background()
		runs, err := r.List(ctx)
		require.NoError(t, err)
		for _, run := range runs {
			require.NoError(t, r.Remove(ctx, run.Name))
		}
		runs, err = r.List(ctx)
		require.NoError(t, err)
		require.Empty(t, runs)
	})
	return r
}

// each runs a test of the suite on every device.
func each(t *testing.T, test func(t *testing.T, ctx context.Context, d device)) {
	t.Parallel()
	for name, open := range devices {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
			t.Cleanup(cancel)
			test(t, ctx, open(t))
		})
	}
}

func begin(t *testing.T, ctx context.Context, r runner.Driver, spec runner.Spec) {
	t.Helper()
	id, err := r.Create(ctx, spec)
	require.NoError(t, err)
	require.NotEmpty(t, id)
	require.NoError(t, r.Start(ctx, spec.Name))
}

func end(t *testing.T, ctx context.Context, r runner.Driver, name string) runner.Exit {
	t.Helper()
	exit, err := r.Wait(ctx, name)
	require.NoError(t, err)
	return exit
}

// texts are the lines of a log without their times, which it checks.
func texts(t *testing.T, log string) []string {
	t.Helper()
	if log == "" {
		return nil
	}
	require.True(t, strings.HasSuffix(log, "\n"), "the log ends in a line's end")
	var list []string
	for line := range strings.Lines(log) {
		stamp, text, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		require.True(t, ok, "no time in %.100q", line)
		at, err := time.Parse(runner.LogTimeFormat, stamp)
		require.NoError(t, err)
		require.Len(t, stamp, 30)
		require.WithinDuration(t, time.Now(), at, 5*time.Minute)
		list = append(list, text)
	}
	return list
}

func logs(t *testing.T, ctx context.Context, r runner.Driver, name string, follow bool) []string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, r.Logs(ctx, name, follow, &b))
	return texts(t, b.String())
}

// tempDir is a directory that a container's root can use, too.
func tempDir(t *testing.T) string {
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

func TestRun(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context, d device) {
		for code, reason := range map[string]string{"0": "", "3": "exited with code 3"} {
			spec := d.spec("print", "out", "printerr", "err", "exit", code)
			before := time.Now().Add(-time.Second)
			begin(t, ctx, d.runner, spec)
			exit := end(t, ctx, d.runner, spec.Name)
			require.Equal(t, code, fmt.Sprint(exit.Code))
			require.Equal(t, reason, exit.Reason)
			require.False(t, exit.OOMKilled)
			require.True(t, before.Before(exit.StartedAt) && !exit.FinishedAt.Before(exit.StartedAt) && exit.FinishedAt.Before(time.Now().Add(time.Second)), "%+v", exit)
			require.ElementsMatch(t, []string{"out", "err"}, logs(t, ctx, d.runner, spec.Name, false))
			require.NoError(t, d.runner.Remove(ctx, spec.Name))
			_, err := d.runner.Wait(ctx, spec.Name)
			require.ErrorIs(t, err, runner.ErrNotFound)
		}
	})
}

func TestKilledBySignal(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context, d device) {
		spec := d.spec("ignoreterm", "print", "ready", "forever")
		begin(t, ctx, d.runner, spec)
		ready(t, ctx, d.runner, spec.Name, "ready")
		require.NoError(t, d.runner.Stop(ctx, spec.Name, 0))
		exit := end(t, ctx, d.runner, spec.Name)
		require.Equal(t, 137, exit.Code)
		require.Equal(t, "killed by signal 9 (SIGKILL)", exit.Reason)
		require.False(t, exit.OOMKilled)
	})
}

// TestTwice calls everything twice, by two runners, then many times at once.
func TestTwice(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context, d device) {
		dir := tempDir(t)
		other := d.again(t)
		both := func(do func(r runner.Driver) error) {
			t.Helper()
			var group sync.WaitGroup
			errs := make([]error, 8)
			for i := range errs {
				group.Go(func() { errs[i] = do([]runner.Driver{d.runner, other}[i%2]) })
			}
			group.Wait()
			require.NoError(t, errors.Join(errs...))
		}
		for range 3 { // short enough to have ended before the last start
			spec := d.spec()
			file := d.share(d.runner, &spec, dir) + "/" + spec.Name
			spec.Command = append(spec.Command, "append", file, "x", "exit", "4")
			var mu sync.Mutex
			ids := map[string]bool{}
			both(func(r runner.Driver) error {
				id, err := r.Create(ctx, spec)
				mu.Lock()
				defer mu.Unlock()
				ids[id] = true
				return err
			})
			require.Len(t, ids, 1)
			both(func(r runner.Driver) error { return r.Start(ctx, spec.Name) })
			both(func(r runner.Driver) error {
				exit, err := r.Wait(ctx, spec.Name)
				if err == nil && exit.Code != 4 {
					err = fmt.Errorf("exit code %d", exit.Code)
				}
				return err
			})
			both(func(r runner.Driver) error { return r.Start(ctx, spec.Name) })
			both(func(r runner.Driver) error { return r.Stop(ctx, spec.Name, time.Second) })
			id, err := other.Create(ctx, spec)
			require.NoError(t, err)
			require.Contains(t, ids, id)
			require.Equal(t, 4, end(t, ctx, other, spec.Name).Code)
			ran, err := os.ReadFile(filepath.Join(dir, spec.Name))
			require.NoError(t, err)
			require.Equal(t, "x", string(ran), "it ran once")
			both(func(r runner.Driver) error { return r.Remove(ctx, spec.Name) })
			require.ErrorIs(t, d.runner.Start(ctx, spec.Name), runner.ErrNotFound)
		}
	})
}

func TestUnknownName(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context, d device) {
		name := "nobody-" + rand.Text()
		require.ErrorIs(t, d.runner.Start(ctx, name), runner.ErrNotFound)
		_, err := d.runner.Wait(ctx, name)
		require.ErrorIs(t, err, runner.ErrNotFound)
		for _, follow := range []bool{false, true} {
			require.ErrorIs(t, d.runner.Logs(ctx, name, follow, new(bytes.Buffer)), runner.ErrNotFound)
		}
		require.NoError(t, d.runner.Stop(ctx, name, time.Second))
		require.NoError(t, d.runner.Remove(ctx, name))
	})
}

func TestBadSpec(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context, d device) {
		secret := "do not tell"
		for what, spoil := range map[string]func(s *runner.Spec){
			"name":  func(s *runner.Spec) { s.Name = "../x" },
			"A=B":   func(s *runner.Spec) { s.Env = map[string]string{"A=B": secret} },
			"UTF-8": func(s *runner.Spec) { s.Env = map[string]string{"x": secret + "\xff"} },
			"NUL":   func(s *runner.Spec) { s.Env = map[string]string{"config.token": secret + "\x00"} },
			"config.large": func(s *runner.Spec) {
				s.Env = map[string]string{"config.large": strings.Repeat(secret, 12000)}
			},
			"all variables": func(s *runner.Spec) {
				s.Env = map[string]string{}
				for i := range 20 {
					s.Env[fmt.Sprint("large.", i)] = strings.Repeat("x", 120_000)
				}
			},
			"absolute":     func(s *runner.Spec) { s.Mounts = []runner.Mount{{Source: "relative", Target: "x"}} },
			"storage root": func(s *runner.Spec) { s.Mounts = []runner.Mount{{Source: "/tmp", Target: "../x"}} },
			"within": func(s *runner.Spec) {
				s.Mounts = []runner.Mount{{Source: "/tmp", Target: "a"}, {Source: "/tmp", Target: "a/b"}}
			},
			"does not exist|no such file|can't see the files": func(s *runner.Spec) { s.Mounts = []runner.Mount{{Source: "/not/there", Target: "a"}} },
			"cores": func(s *runner.Spec) { s.Resources.CPU = -1 },
		} {
			spec := d.spec("exit", "0")
			spoil(&spec)
			_, err := d.runner.Create(ctx, spec)
			require.Error(t, err, what)
			require.True(t, runner.IsPermanent(err), "%s: %v", what, err)
			require.Regexp(t, what, err.Error())
			require.NotContains(t, err.Error(), secret)
		}
		runs, err := d.runner.List(ctx)
		require.NoError(t, err)
		require.Empty(t, runs)
	})
}

func TestCannotStart(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context, d device) {
		spec := d.spec()
		d.bad(&spec)
		_, err := d.runner.Create(ctx, spec)
		require.NoError(t, err)
		if d.k8s { // a cluster only tells later
			require.NoError(t, d.runner.Start(ctx, spec.Name))
			end(t, ctx, d.runner, spec.Name)
		}
		for range 2 {
			err := d.runner.Start(ctx, spec.Name)
			require.ErrorContains(t, err, "could not be started")
			require.True(t, runner.IsPermanent(err), "%v", err)
			t.Log(err)
		}
		exit := end(t, ctx, d.again(t), spec.Name)
		require.Contains(t, []int{126, 127}, exit.Code)
		require.Contains(t, exit.Reason, "could not be started")
		require.True(t, exit.StartedAt.IsZero())
		require.Empty(t, logs(t, ctx, d.runner, spec.Name, true))
		require.NoError(t, d.runner.Stop(ctx, spec.Name, time.Second))
		require.NoError(t, d.runner.Remove(ctx, spec.Name))
	})
}

func TestWaitFromBeforeTheStart(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context, d device) {
		spec := d.spec("print", "hello", "exit", "5")
		_, err := d.runner.Create(ctx, spec)
		require.NoError(t, err)
		var group sync.WaitGroup
		group.Go(func() {
			exit, err := d.again(t).Wait(ctx, spec.Name)
			if err != nil || exit.Code != 5 {
				t.Errorf("%+v, %v", exit, err)
			}
		})
		var log bytes.Buffer
		group.Go(func() {
			if err := d.again(t).Logs(ctx, spec.Name, true, &log); err != nil {
				t.Error(err)
			}
		})
		require.NoError(t, d.runner.Start(ctx, spec.Name))
		group.Wait()
		require.Equal(t, []string{"hello"}, texts(t, log.String()))
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context, d device) {
		spec := d.spec("forever")
		_, err := d.runner.Create(ctx, spec)
		require.NoError(t, err)
		for range 2 { // created, then running
			short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			_, err = d.runner.Wait(short, spec.Name)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			err = d.runner.Logs(short, spec.Name, true, new(bytes.Buffer))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			cancel()
			require.NoError(t, d.runner.Start(ctx, spec.Name))
		}
	})
}

func TestEnvironment(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context, d device) {
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
		for i := range 14 { // together nearly what is allowed
			env[fmt.Sprint("bulk.", i)] = strings.Repeat("b", 130_000)
		}
		spec := d.spec("env")
		spec.Env = env
		if d.k8s {
			_, err := d.runner.Create(ctx, spec)
			require.ErrorContains(t, err, "printable ASCII")
			require.True(t, runner.IsPermanent(err))
			delete(env, "国密.参数")
		}
		begin(t, ctx, d.runner, spec)
		require.Equal(t, 0, end(t, ctx, d.runner, spec.Name).Code)
		got := map[string]bool{}
		for _, line := range logs(t, ctx, d.runner, spec.Name, false) {
			got[line] = true
		}
		want := maps.Clone(env)
		if d.process {
			want["HOME"] = filepath.Dir(d.runner.StorageRoot(spec.Name))
			want["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
			require.Len(t, got, len(want), "nothing else")
		}
		for name, value := range want {
			require.Contains(t, got, fmt.Sprintf("%q %d %x", name, len(value), sha256.Sum256([]byte(value))), name)
		}
	})
}

func TestMounts(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context, d device) {
		if d.k8s {
			t.Skip("pods can't see files of this machine: TestBadSpec")
		}
		in, out := tempDir(t), tempDir(t)
		require.NoError(t, os.WriteFile(filepath.Join(in, "data_0"), []byte("rows\n"), 0o644))
		spec := d.spec()
		root := d.runner.StorageRoot(spec.Name)
		spec.Mounts = []runner.Mount{{Source: in, Target: "ns/in", ReadOnly: true}, {Source: out, Target: "guest-互通/out"}}
		spec.Command = append(spec.Command, "cat", root+"/ns/in/data_0", "append", root+"/guest-互通/out/data_0", "result",
			"append", d.runner.LogPath(spec.Name)+"/own.log", "words")
		if !d.process {
			spec.Command = append(spec.Command, "cannotappend", root+"/ns/in/data_0", "cannotappend", root+"/ns/in/new")
		}
		begin(t, ctx, d.runner, spec)
		exit := end(t, ctx, d.runner, spec.Name)
		require.Equal(t, []string{"rows"}, logs(t, ctx, d.runner, spec.Name, false))
		require.Equal(t, 0, exit.Code)
		require.NoError(t, d.runner.Remove(ctx, spec.Name))
		result, err := os.ReadFile(filepath.Join(out, "data_0"))
		require.NoError(t, err, "what was mounted outlives the run")
		require.Equal(t, "result", string(result))
		require.FileExists(t, filepath.Join(in, "data_0"))
	})
}

func TestList(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context, d device) {
		want := map[string]runner.State{}
		ids := map[string]string{}
		add := func(state runner.State, args ...string) string {
			spec := d.spec(args...)
			spec.Labels = map[string]string{"task_id": "task of " + spec.Name, "job_id": "1"}
			id, err := d.runner.Create(ctx, spec)
			require.NoError(t, err)
			want[spec.Name], ids[spec.Name] = state, id
			return spec.Name
		}
		add(runner.Created, "forever")
		require.NoError(t, d.runner.Start(ctx, add(runner.Running, "forever")))
		ended := add(runner.Exited, "exit", "0")
		require.NoError(t, d.runner.Start(ctx, ended))
		end(t, ctx, d.runner, ended)
		stopped := add(runner.Exited, "forever")
		require.NoError(t, d.runner.Stop(ctx, stopped, 0))
		runs, err := d.again(t).List(ctx)
		require.NoError(t, err)
		require.Len(t, runs, len(want))
		for _, run := range runs {
			require.Equal(t, want[run.Name], run.State, run.Name)
			require.Equal(t, map[string]string{"task_id": "task of " + run.Name, "job_id": "1"}, run.Labels)
			require.WithinDuration(t, time.Now(), run.CreatedAt, time.Minute)
			if run.Name != stopped {
				require.Equal(t, ids[run.Name], run.ID)
			}
		}
	})
}

func TestHostID(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context, d device) {
		id, err := d.runner.RunnerID(ctx)
		require.NoError(t, err)
		require.NotEmpty(t, id)
		again, err := d.again(t).RunnerID(ctx)
		require.NoError(t, err)
		require.Equal(t, id, again)
	})
}

// Each device tells of the machine that this test is on; a Docker Engine elsewhere would not know the disk.
func TestCapacity(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context, d device) {
		c, err := d.runner.Capacity(ctx)
		require.NoError(t, err)
		require.Positive(t, c.CPUMilli)
		require.Positive(t, c.Memory)
		require.GreaterOrEqual(t, c.Disk, c.DiskFree)
		if d.runner.Device() == "process" {
			require.LessOrEqual(t, c.CPUMilli, int64(runtime.NumCPU())*1000)
			require.Positive(t, c.DiskFree)
		}
	})
}
