// Provider is Hutong's reference provider: one static program with the algorithms of one vendor, as a container under
// any BFIA scheduler would run it.
//
// It is told everything by its environment (package component), talks to its partners through its own party's transport (package
// channel), runs one component and ends: exit code 0 or 1 (75: a partner was stopped), and a callback that says the same. The algorithms are
// Intersection (package psi), HeteroSecureBoost (package boost) and HeteroLR (package lr); Probe (package probe) tries out what
// they need. It uses nothing of Hutong itself, since it stands for what
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
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"hutong-reference/channel"
	"hutong-reference/component"
)

func main() {
	stopped := make(chan os.Signal, 1)
	signal.Notify(stopped, syscall.SIGTERM, syscall.SIGINT)
	os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, stopped))
}

// abortTime and stopTime bound how long an ending program tries to tell its partners.
const (
	abortTime = 5 * time.Second
	stopTime  = time.Second
)

// run does one task and returns the exit code: 0, 1, 75 when a partner was stopped, or 128 and the signal's number when it was
// stopped itself. An argument is a
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

	control, controlErr := task.OpenControl()
	if controlErr != nil {
		log.Warn("nobody can ask how the task is going; callback and exit code tell how it ended", "error", controlErr.Error())
	}
	defer control.Close()

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
		if stoppedPartner(err) {
			code = codeTemporary
		}
		log.Error("failed", "error", err.Error())
	} else {
		log.Info("done")
	}
	control.Set(status)
	if err := task.Report(context.Background(), status); err != nil {
		log.Warn("the scheduler could not be told; the exit code tells it", "error", err.Error())
	}
	return code
}

var errStopped = channel.Errorf("it was stopped")

// codeTemporary is EX_TEMPFAIL of sysexits.h: another attempt may go well. It tells a platform that this end is no failure
// of the algorithm's.
const codeTemporary = 75

// stoppedPartner tells whether a partner ended since somebody stopped it, its container or its host: then none of the parties
// has done anything wrong.
func stoppedPartner(err error) bool {
	var partner *channel.PartnerError
	return errors.As(err, &partner) && partner.Reason == errStopped.Error()
}

// runTask runs the component that the task names.
func runTask(ctx context.Context, task component.Task) error {
	c, ok := components[task.Component]
	if !ok {
		return fmt.Errorf("component %q is unknown; this provider has %s", task.Component, known())
	}
	if c.alone != nil {
		return c.alone(ctx, task)
	}
	peers, links, ctx, err := connect(ctx, task, c.roles)
	defer func() {
		for _, l := range links {
			l.Close()
		}
	}()
	if err != nil {
		return err
	}
	err = func() error {
		store, err := component.OpenStore(task.Storage)
		if err != nil {
			return err
		}
		return c.together(ctx, task, store, peers)
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
	told := err
	if stoppedPartner(err) {
		told = errStopped // the third party shall know it for what it is
	}
	var telling sync.WaitGroup
	for _, l := range links {
		telling.Go(func() { l.Abort(told, limit) })
	}
	telling.Wait()
	return err
}

// connect opens a link to every other party of the roles, also to those that the algorithm exchanges nothing with: a party that
// fails tells all. The context ends when one of them does.
func connect(ctx context.Context, task component.Task, roles []string) (component.Peers, []*channel.Link, context.Context, error) {
	if !slices.Contains(roles, task.Self.Role) {
		return nil, nil, ctx, fmt.Errorf("variable config.self_role: %s runs as %s, not as %q", task.Component, strings.Join(roles, " or "), task.Self.Role)
	}
	peers := component.Peers{}
	var links []*channel.Link
	for _, role := range roles {
		parties, err := task.Some(role)
		if err != nil {
			return nil, links, ctx, err
		}
		for _, p := range parties {
			if p == task.Self {
				continue
			}
			var link *channel.Link
			link, ctx, err = channel.Open(ctx, config(task, p))
			if err != nil {
				return nil, links, ctx, err
			}
			links = append(links, link)
			peers[p.String()] = link
		}
	}
	return peers, links, ctx, nil
}

func config(task component.Task, partner component.Party) channel.Config {
	return channel.Config{
		Transport: task.Transport,
		SessionID: task.SessionID, TaskID: task.TaskID, TraceID: task.TraceID, Token: task.Token,
		Self: task.Self.String(), SelfNode: task.Self.NodeID,
		Partner: partner.String(), OtherNode: partner.NodeID,
	}
}
