package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/bfia"
)

// labelControlPort keeps the control port that a run was given, for who finds the run again.
const labelControlPort = "control_port"

const (
	// askAgain is how often a component is asked that answers.
	askAgain = 2 * time.Second
	// askFirst is when one is asked for the first time, and then each time after twice as long, up to askSeldom: it takes
	// its time to begin, and most never listen.
	askFirst  = 250 * time.Millisecond
	askSeldom = 15 * time.Second
	// askTimeout bounds one question, maxTaskAnswer its answer.
	askTimeout    = 2 * time.Second
	maxTaskAnswer = 64 << 10
)

// control is a run's control port on this host.
type control struct {
	url    string
	client *http.Client
}

// watchControl asks a run on its control port how it does (part 3, 3.2.1), until ctx ends, records what it tells, and
// passes its end on. Components need not listen there: then nothing comes of it.
func (r *Runner) watchControl(ctx context.Context, d driver.Driver, req activities.PartRequest, log *slog.Logger) {
	var c *control
	last := ""
	for wait := askFirst; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, askSeldom)
		if c == nil {
			var err error
			if c, err = r.findControl(ctx, d, req.ContainerName()); err != nil {
				continue
			}
			if c == nil {
				return // it was given no port
			}
		}
		answer, err := c.ask(ctx, r.Node, req.TaskID, req.Key.JobID)
		if err != nil {
			if last != "" {
				log.Debug("the component does not answer on its control port any more", "error", err)
			}
			continue
		}
		wait = askAgain
		if answer.Progress != last {
			if err := r.Store.SetTaskProgress(ctx, req.Key.Row(), req.Attempt, answer.Progress); err != nil {
				log.Warn("a task's progress was not recorded", "error", err)
			} else {
				last = answer.Progress
			}
		}
		if !answer.Status.Terminal() || r.OnReport == nil {
			continue
		}
		// As good as its callback, which may have been lost.
		report := bfia.TaskReport{TaskID: req.TaskID, Role: req.Part.Self(), Status: answer.Status}
		if err := r.OnReport(ctx, req.Key.JobID, report); err == nil {
			return
		}
	}
}

// findControl finds where a run is asked; nil when it has no control port.
func (r *Runner) findControl(ctx context.Context, d driver.Driver, name string) (*control, error) {
	runs, err := d.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("looking for %s: %w", name, err)
	}
	i := slices.IndexFunc(runs, func(run driver.Container) bool { return run.Name == name })
	if i < 0 || runs[i].Labels[labelControlPort] == "" {
		return nil, nil
	}
	host, err := d.Address(ctx, name)
	if err != nil {
		return nil, err
	}
	return &control{
		url: "http://" + net.JoinHostPort(host, runs[i].Labels[labelControlPort]) + bfia.PathAlgorithmQuery,
		client: &http.Client{
			Timeout: askTimeout,
			// A component may not send us elsewhere, nor keep a connection of ours.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport:     &http.Transport{DisableKeepAlives: true},
		},
	}, nil
}

// ask puts the question once.
func (c *control) ask(ctx context.Context, node, taskID, trace string) (*bfia.TaskAnswer, error) {
	body, err := json.Marshal(bfia.TaskQuery{TaskID: taskID})
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	bfia.SetHeaders(request.Header, node, node, trace, time.Now())
	response, err := c.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxTaskAnswer))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP %d", response.StatusCode)
	}
	return bfia.ParseTaskAnswer(answer)
}

// giveControlPort gives a run the port on which it may tell how it does.
func giveControlPort(d driver.Driver, spec *driver.Spec, sys *bfia.System) error {
	port, err := d.ControlPort()
	if err != nil {
		return err
	}
	sys.ControlPort = port
	spec.Labels[labelControlPort] = strconv.Itoa(port)
	return nil
}
