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
	"hutong/internal/httpclient"
)

// labelControlPort holds a container's control port, so that a worker that takes over finds it.
const labelControlPort = "control_port"

const (
	// pollInterval is the polling interval of a component that answers.
	pollInterval = 2 * time.Second
	// firstPollDelay is the delay of the first poll. It doubles up to maxPollDelay: components take time to
	// start, and most never listen.
	firstPollDelay = 250 * time.Millisecond
	maxPollDelay   = 15 * time.Second
	// pollTimeout bounds one poll, maxTaskAnswer its answer.
	pollTimeout   = 2 * time.Second
	maxTaskAnswer = 64 << 10
)

// control is a container's control port.
type control struct {
	url    string
	client *http.Client
}

// watchControl polls a container's control port (part 3, 3.2.1) until ctx ends. It records progress and
// passes a reported end on. Most components don't listen there, which is fine.
func (r *Runner) watchControl(ctx context.Context, d driver.Driver, name string, req activities.PartRequest,
	log *slog.Logger) {
	var c *control
	last := ""
	for wait := firstPollDelay; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, maxPollDelay)
		if c == nil {
			var err error
			if c, err = r.findControl(ctx, d, name); err != nil {
				continue
			}
			if c == nil {
				return // it has no control port
			}
		}
		answer, err := c.poll(ctx, r.Node, req.TaskID, req.Key.JobID)
		if err != nil {
			if last != "" {
				log.Debug("component stopped answering on its control port", "error", err)
			}
			continue
		}
		wait = pollInterval
		if answer.Progress != last {
			if err := r.Store.SetTaskProgress(ctx, req.Key.Row(), req.Attempt, answer.Progress); err != nil {
				log.Warn("failed to record a task's progress", "error", err)
			} else {
				last = answer.Progress
			}
		}
		if !answer.Status.Terminal() || r.OnReport == nil {
			continue
		}
		// It counts as the container's callback, which may have been lost.
		report := bfia.TaskReport{TaskID: req.TaskID, Role: req.Part.Self(), Status: answer.Status}
		err = r.OnReport(ctx, req.Key.JobID, report)
		if r.OnControlReport != nil {
			r.OnControlReport(err)
		}
		if err == nil {
			return
		}
	}
}

// findControl returns a container's control port, or nil if it has none.
func (r *Runner) findControl(ctx context.Context, d driver.Driver, name string) (*control, error) {
	containers, err := d.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("failed to find the container %s: %w", name, err)
	}
	i := slices.IndexFunc(containers, func(c driver.Container) bool { return c.Name == name })
	if i < 0 || containers[i].Labels[labelControlPort] == "" {
		return nil, nil
	}
	host, err := d.Address(ctx, name)
	if err != nil {
		return nil, err
	}
	transport := httpclient.Direct()
	transport.DisableKeepAlives = true
	return &control{
		url: "http://" + net.JoinHostPort(host, containers[i].Labels[labelControlPort]) +
			bfia.PathAlgorithmQuery,
		client: &http.Client{
			Timeout: pollTimeout,
			// A component must neither redirect the poll nor keep connections open.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport:     transport,
		},
	}, nil
}

// poll queries the control port once.
func (c *control) poll(ctx context.Context, node, taskID, trace string) (*bfia.TaskAnswer, error) {
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

// addControlPort assigns a control port to a new container.
func addControlPort(d driver.Driver, spec *driver.Spec, sys *bfia.System) error {
	port, err := d.ControlPort()
	if err != nil {
		return err
	}
	sys.ControlPort = port
	spec.Labels[labelControlPort] = strconv.Itoa(port)
	return nil
}
