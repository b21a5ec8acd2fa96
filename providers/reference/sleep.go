package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"hutong-reference/component"
)

var sleepParameters = []string{
	"seconds", "exit_code", "memory_mib", "lines", "lines_per_second", "write_mib", "ignore_stop",
}

// sleep runs for the parameter seconds and logs one line per second. With the parameter exit_code it then
// exits with that code and without a callback, as a crashing program does.
//
// The other parameters strain the party first: they allocate memory, flood the log, fill the storage or
// ignore SIGTERM.
func sleep(ctx context.Context, task component.Task) error {
	r := component.NewReader(task.Parameters)
	seconds := r.Float("seconds", 1, 0, 1e6)
	code := r.Int("exit_code", 0, 0, 255)
	memory := r.Int("memory_mib", 0, 0, 1<<20)
	lines := r.Int("lines", 0, 0, 1<<30)
	rate := r.Int("lines_per_second", 100_000, 1, 1<<30)
	written := r.Int("write_mib", 0, 0, 1<<20)
	ignore := r.Bool("ignore_stop", false)
	if err := r.Err(); err != nil {
		return err
	}
	if ignore {
		signal.Ignore(syscall.SIGTERM)
	}
	held := allocate(memory)
	if err := floodLog(ctx, lines, rate); err != nil {
		return err
	}
	if err := fillStorage(ctx, task, written); err != nil {
		return err
	}
	end := time.NewTimer(time.Duration(seconds * float64(time.Second)))
	defer end.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 1; ; n++ {
		slog.Info(fmt.Sprintf("sleeping, second %d of %v", n, seconds), "mib_held", len(held))
		select {
		case <-tick.C:
		case <-end.C:
			if code != 0 {
				slog.Error("exiting as parameter exit_code requires", "exit_code", code)
				os.Exit(code)
			}
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// allocate returns the given number of MiB of memory. It writes to every byte, so that the memory is
// resident.
func allocate(mib int) (held [][]byte) {
	for range mib {
		block := make([]byte, 1<<20)
		for i := range block {
			block[i] = byte(i)
		}
		held = append(held, block)
	}
	return held
}

// floodLog writes lines to standard output at the given rate per second.
func floodLog(ctx context.Context, lines, rate int) error {
	out := bufio.NewWriterSize(os.Stdout, 32<<10)
	filler := strings.Repeat("a component that logs far too much. ", 6)
	began := time.Now()
	for n := range lines {
		_, err := fmt.Fprintf(out, "level=info msg=\"line %d of %d: %s\"\n", n+1, lines, filler)
		if err != nil {
			return err
		}
		if n%1000 != 0 {
			continue
		}
		due := began.Add(time.Duration(n) * time.Second / time.Duration(rate))
		select {
		case <-time.After(time.Until(due)):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return out.Flush()
}

// fillStorage writes the given number of MiB to the output "out".
func fillStorage(ctx context.Context, task component.Task, mib int) error {
	if mib == 0 {
		return nil
	}
	store, err := component.OpenStore(task.Storage)
	if err != nil {
		return err
	}
	output, ok := task.Outputs["out"]
	if !ok {
		return fmt.Errorf("output out: the job does not declare it, but parameter write_mib needs it")
	}
	key := output.Namespace + "/" + output.Name + "/data_0"
	if err := store.Write(ctx, key, make([]byte, mib<<20)); err != nil {
		return fmt.Errorf("output out: %w", err)
	}
	return nil
}
