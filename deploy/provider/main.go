// Provider is Hutong's reference provider: one static program with the algorithms of one vendor, as a container under
// any BFIA scheduler would run it.
//
// It is told everything by its environment (package component), talks to its partner through its own party's transport (package
// channel), runs one component and ends: exit code 0 or 1, and a callback that says the same. The algorithms are
// Intersection (package psi) and HeteroSecureBoost (package boost). It uses nothing of Hutong itself, since it stands for what
// a vendor brings.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"hutong/deploy/provider/channel"
	"hutong/deploy/provider/component"
)

func main() {
	stopped := make(chan os.Signal, 1)
	signal.Notify(stopped, syscall.SIGTERM, syscall.SIGINT)
	os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, stopped))
}

// abortTime and stopTime bound how long an ending program tries to tell its partner.
const (
	abortTime = 5 * time.Second
	stopTime  = time.Second
)

// run does one task and returns the exit code: 0, 1, or 128 and the signal's number when it was stopped. An argument is a
// component that runs in place of the one that the environment names: so a registration whose command is
// ["CallbackOnly"] makes any job a measurement of the platform alone.
func run(args, environ []string, logs io.Writer, stopped <-chan os.Signal) int {
	slog.SetDefault(slog.New(slog.NewTextHandler(logs, nil)))
	task, err := component.FromEnviron(environ)
	if len(args) > 0 {
		task.Component = args[0]
	}
	log := slog.With("component", task.Component, "task_id", task.TaskID, "role", task.Self.String())
	slog.SetDefault(log)

	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	ended := make(chan error, 1)
	go func() {
		if err == nil {
			err = runTask(ctx, task)
		}
		ended <- err
	}()
	select {
	case err = <-ended:
	case sig := <-stopped:
		log.Warn("stopped by a signal", "signal", sig.String())
		cancel(errStopped)
		select {
		case <-ended: // it told the partner; nobody is called back, for whoever stops a task knows how it ended
		case <-time.After(stopTime):
		}
		code := 143
		if s, ok := sig.(syscall.Signal); ok {
			code = 128 + int(s)
		}
		return code
	}

	status, code := component.StatusSuccess, 0
	if err != nil {
		status, code = component.StatusFailed, 1
		log.Error("failed", "error", err.Error())
	} else {
		log.Info("done")
	}
	if err := task.Report(context.Background(), status); err != nil {
		log.Warn("the scheduler could not be told; the exit code tells it", "error", err.Error())
	}
	return code
}

var errStopped = channel.Errorf("it was stopped")

// runTask runs the component that the task names.
func runTask(ctx context.Context, task component.Task) error {
	c, ok := components[task.Component]
	if !ok {
		return fmt.Errorf("component %q is unknown; this provider has %s", task.Component, known())
	}
	if c.alone != nil {
		return c.alone(ctx, task)
	}
	partnerRole := map[string]string{"guest": "host", "host": "guest"}[task.Self.Role]
	if partnerRole == "" {
		return fmt.Errorf("variable config.self_role: %s runs as guest or host, not as %q", task.Component, task.Self.Role)
	}
	partner, err := task.Partner(partnerRole)
	if err != nil {
		return err
	}
	link, ctx, err := channel.Open(ctx, channel.Config{
		Transport: task.Transport,
		SessionID: task.SessionID, TaskID: task.TaskID, TraceID: task.TraceID, Token: task.Token,
		Self: task.Self.String(), SelfNode: task.Self.NodeID,
		Partner: partner.String(), OtherNode: partner.NodeID,
	})
	if err != nil {
		return err
	}
	defer link.Close()
	err = func() error {
		store, err := component.OpenStore(task.Storage)
		if err != nil {
			return err
		}
		return c.paired(ctx, task, store, link)
	}()
	if err == nil {
		return nil
	}
	limit := abortTime
	if cause := context.Cause(ctx); cause != nil {
		err = cause // what ended the work says more than what the work says about it
		if errors.Is(cause, errStopped) {
			limit = stopTime
		}
	}
	link.Abort(err, limit)
	return err
}
