// Provider is Hutong's reference provider: one static program with the algorithms of one vendor. Any BFIA
// scheduler can run it as a container.
//
// The program reads its task from the environment (package component). It talks to its partners through the
// transport of its own party (package channel). It runs one component and exits with 0, 1, 69 if a partner
// failed, or 75 if a partner was stopped. A callback reports the same result.
//
// The algorithms are Intersection (package psi), HeteroSecureBoost (package boost) and HeteroLR (package lr).
// Probe (package probe) checks everything that these algorithms need.
//
// The program imports nothing of Hutong, because it represents what a vendor brings. It is a Go module of its
// own.
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

// abortTimeout and stopTimeout bound how long the program tries to notify its partners before it exits.
const (
	abortTimeout = 5 * time.Second
	stopTimeout  = time.Second
)

// run executes one task and returns the exit code: 0 for success, 1 for failure, 69 if a partner failed, 75
// if a partner was stopped. If this program is stopped by a signal, the code is 128 plus the signal's number.
//
// An argument overrides the component that the environment names. A registration whose command is
// ["CallbackOnly"] therefore turns any job into a measurement of the platform alone.
func run(args, environ []string, logs io.Writer, stopped <-chan os.Signal) int {
	slog.SetDefault(slog.New(slog.NewTextHandler(logs, nil)))
	task, err := component.FromEnviron(environ)
	if len(args) > 0 {
		task.Component = args[0]
	}

	log := slog.With("component", task.Component, "task_id", task.TaskID, "role", task.Self.String())
	slog.SetDefault(log)

	control, controlErr := task.ServeControl()
	if controlErr != nil {
		log.Warn("failed to serve status queries; callback and exit code still report the result", "error",
			controlErr.Error())
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
		case <-ended: // partners are notified; no callback, since the scheduler itself stopped the task
		case <-time.After(stopTimeout):
		}
		code := 143
		if s, ok := sig.(syscall.Signal); ok {
			code = 128 + int(s)
		}
		return code
	}

	return report(task, control, err)
}

// report reports the result of the task by control port and callback, and returns the exit code.
func report(task component.Task, control *component.Control, err error) int {
	log := slog.Default()
	status, code := component.StatusSuccess, 0
	if err != nil {
		status, code = component.StatusFailed, 1
		if partner := (*channel.PartnerError)(nil); errors.As(err, &partner) {
			code = exitPartner
		}
		if isPartnerStopped(err) {
			code = exitTemporary
		}
		log.Error("failed", "error", err.Error())
	} else {
		log.Info("done")
	}

	control.SetStatus(status)
	if err := task.ReportStatus(context.Background(), status); err != nil {
		log.Warn("failed to call back the scheduler; the exit code reports the result", "error", err.Error())
	}
	return code
}

// errStopped is the reason that partners receive when this program is stopped. [isPartnerStopped] compares
// with it.
var errStopped = channel.Errorf("stopped by a signal")

// exitTemporary is EX_TEMPFAIL of sysexits.h. It reports to a platform that the failure is retryable: it has
// a cause outside of the algorithm.
const exitTemporary = 75

// exitPartner is EX_UNAVAILABLE of sysexits.h. It reports to a platform that a partner failed, and this side
// has no failure of its own, so that the partner's failure is shown as the cause.
const exitPartner = 69

// isPartnerStopped reports whether a partner ended because it, its container or its machine was stopped. In
// that case no party has failed.
func isPartnerStopped(err error) bool {
	var partner *channel.PartnerError
	return errors.As(err, &partner) && partner.Reason == errStopped.Error()
}

// runTask runs the component that the task names, and notifies the partners if it fails.
func runTask(ctx context.Context, task component.Task) error {
	c, ok := components[task.Component]
	if !ok {
		return fmt.Errorf(
			"component %q is unknown; this provider has the components %s", task.Component, componentNames(),
		)
	}
	if c.runAlone != nil {
		return c.runAlone(ctx, task)
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
		return c.runConnected(ctx, task, store, peers)
	}()
	if err == nil {
		return nil
	}

	limit := abortTimeout
	if cause := context.Cause(ctx); cause != nil {
		err = cause // more specific than the error of the interrupted operation
		if errors.Is(cause, errStopped) {
			limit = stopTimeout
		}
	}

	reason := err
	if isPartnerStopped(err) {
		reason = errStopped // so that a third party classifies it as retryable, too
	}
	var aborts sync.WaitGroup
	for _, l := range links {
		aborts.Go(func() { l.Abort(reason, limit) })
	}
	aborts.Wait()
	return err
}

// connect opens a link to every other party of the roles. This includes parties with which the algorithm
// exchanges nothing, because a party that fails notifies all others. The returned context ends when any of
// them fails.
func connect(
	ctx context.Context, task component.Task, roles []string,
) (component.Peers, []*channel.Link, context.Context, error) {
	if !slices.Contains(roles, task.Self.Role) {
		return nil, nil, ctx, fmt.Errorf("variable config.self_role: component %s runs as %s, not as %q",
			task.Component, strings.Join(roles, " or "), task.Self.Role)
	}
	peers := component.Peers{}
	var links []*channel.Link
	for _, role := range roles {
		parties, err := task.RequireParties(role)
		if err != nil {
			return nil, links, ctx, err
		}
		for _, p := range parties {
			if p == task.Self {
				continue
			}
			var link *channel.Link
			link, ctx, err = channel.Open(ctx, linkConfig(task, p))
			if err != nil {
				return nil, links, ctx, err
			}
			links = append(links, link)
			peers[p.String()] = link
		}
	}
	return peers, links, ctx, nil
}

// linkConfig returns the configuration of the link to a partner.
func linkConfig(task component.Task, partner component.Party) channel.Config {
	return channel.Config{
		Transport: task.Transport,
		SessionID: task.SessionID, TaskID: task.TaskID, TraceID: task.TraceID, Token: task.Token,
		Self: task.Self.String(), SelfNode: task.Self.NodeID,
		Partner: partner.String(), PartnerNode: partner.NodeID,
	}
}
