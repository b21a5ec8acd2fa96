// Command stage starts two pairs of real parties for the tests of the console: one pair without sign-in, as
// hutong dev does, and one in the mode strict with TLS and tokens. It runs jobs in every state, prints
// addresses, tokens and ids as one line of JSON, and ends when its standard input does.
//
//	make console-stage    builds and starts it, for a look at the pages with a browser
//
// It needs bin/hutong, for Temporal's server, and bin/provider.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"hutong/activities/driver/process"
)

func main() {
	switch {
	case len(os.Args) > 2 && os.Args[1] == "supervise":
		os.Exit(process.Supervise(os.Args[2:])) // the process driver starts this program as its supervisor
	case len(os.Args) == 3 && os.Args[1] == followCommand && os.Getenv(componentName) == "Evaluation":
		os.Exit(evaluate())
	case len(os.Args) == 3 && os.Args[1] == followCommand:
		os.Exit(follow(os.Args[2]))
	}
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "the folder of hutong and provider")
	flag.IntVar(&o.stored, "stored", 10_000, "the number of ended jobs in the store of the open guest")
	flag.IntVar(&o.tasks, "tasks", 1000, "the number of tasks of the large job")
	flag.StringVar(&o.dex, "dex", "", "the OpenID provider of the strict guest; see test/testenv/dex")
	flag.BoolVar(&o.verbose, "v", false, "print the log of the parties")
	flag.Parse()

	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, o, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "stage:", err)
		os.Exit(1)
	}
}

type options struct {
	bin     string
	dex     string
	stored  int
	tasks   int
	verbose bool
}

// stage is what the tests learn of the parties.
type stage struct {
	// Memory is the address of [serveMemory].
	Memory string `json:"memory"`
	// Files is the folder of the files that the tasks of component Follow read; see [follow].
	Files  string     `json:"files"`
	Open   openPair   `json:"open"`
	Strict strictPair `json:"strict"`
}

// run starts the parties and their jobs, prints the stage, and waits for the end of in or of ctx.
func run(ctx context.Context, o options, in io.Reader, out io.Writer) error {
	dir, err := os.MkdirTemp("", "hutong-console-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return err
	}
	temporal, stop, err := startTemporal(o, filepath.Join(dir, "temporal"))
	if err != nil {
		return err
	}
	defer stop()

	b := builder{options: o, dir: dir, temporal: temporal, logger: slog.New(slog.DiscardHandler)}
	if o.verbose {
		b.logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	defer b.stopParties()
	built, err := b.build(ctx)
	if err != nil {
		return err
	}
	url, stopMemory, err := serveMemory()
	if err != nil {
		return err
	}
	defer stopMemory()
	built.Memory = url
	if err := json.NewEncoder(out).Encode(built); err != nil {
		return err
	}

	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, in)
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	return nil
}

// startTemporal starts a Temporal server of its own with its database in dir.
func startTemporal(o options, dir string) (address string, stop func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, err
	}
	program := filepath.Join(o.bin, "hutong")
	if _, err := os.Stat(program); err != nil {
		return "", nil, errors.New(program + " is not built: run 'make build' first")
	}
	cmd := exec.Command(program, "temporal", "--data-dir", dir, "--port", "0")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
	line, err := bufio.NewReader(pipe).ReadString('\n')
	address, ready := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if err != nil || !ready {
		stop()
		return "", nil, fmt.Errorf("failed to start the Temporal server: it printed %q instead of its address: %v",
			line, err)
	}
	return address, stop, nil
}

// poll calls f every 50 ms until it reports true, fails, or the limit has passed.
func poll(ctx context.Context, limit time.Duration, what string, f func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		done, err := f()
		if err != nil || done {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("failed to wait for %s: %w", what, ctx.Err())
		}
	}
}
