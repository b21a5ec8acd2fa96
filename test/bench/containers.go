package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"

	"hutong/bfia"
)

// dockerCase is a measurement of containers on one kind of network.
type dockerCase struct {
	short, name string
	hostNetwork bool
	one, many   target
}

func (c dockerCase) run(ctx context.Context, o options, into *report) error {
	docker, err := o.engine(ctx)
	if err != nil || docker == nil {
		return err
	}
	defer func() { _ = docker.Close() }()
	var flags []string
	if c.hostNetwork {
		flags = append(flags, "--host-network")
	}
	d, err := startDeployment(ctx, o, slots, flags...)
	if err != nil {
		return err
	}
	defer d.clean(context.WithoutCancel(ctx), docker)
	defer d.stop()
	const provider = "unionpay"
	if err := d.prepare(ctx, provider, bfia.DeviceDocker, bfia.Metadata{Image: tag, Command: []string{"CallbackOnly"}}); err != nil {
		return err
	}
	document, err := d.document(provider)
	if err != nil {
		return err
	}
	a, err := c.first(ctx, d, docker, document)
	if err != nil {
		return fmt.Errorf("first job: %w", err)
	}
	defer a.callbacks.close()
	chapter := into.chapter("The seed's job, "+c.name, "Docker alone")
	if err := c.single(ctx, o, d, a, docker, document, into, chapter); err != nil {
		return err
	}
	many := o.many
	if c.hostNetwork {
		many = many[:1] // how it grows is told for bridges
	}
	for _, n := range many {
		if err := c.atOnce(ctx, o, d, a, document, n, chapter); err != nil {
			return err
		}
	}
	return nil
}

// first runs a job to learn its containers' configurations, and warms up both ways.
func (c dockerCase) first(ctx context.Context, d *deployment, docker *client.Client, document []byte) (*alone, error) {
	w := watch(ctx, docker, true, "hutong.node_id", d.guest, d.host)
	defer w.stop()
	t, err := d.job(ctx, document)
	if err != nil {
		return nil, err
	}
	if _, err := w.until(ctx, 4); err != nil {
		return nil, err
	}
	if err := d.settle(ctx, t); err != nil {
		return nil, err
	}
	a, err := newAlone(docker, d.guest, d.dir, w.seen)
	if err != nil {
		return nil, err
	}
	_, _, err = a.job(ctx)
	return a, err
}

// single measures one job at a time.
func (c dockerCase) single(ctx context.Context, o options, d *deployment, a *alone, docker *client.Client, document []byte, into *report, chapter *chapter) error {
	where := split{name: "one job, " + c.name, spans: spanNames[:]}
	ours := watch(ctx, docker, false, "hutong.node_id", d.guest, d.host)
	defer ours.stop()
	theirs := watch(ctx, docker, false, runLabel, a.id)
	defer theirs.stop()
	err := d.profiled(ctx, o, "one-"+c.short, func() error {
		for range o.runs {
			began, ended, err := a.job(ctx)
			if err != nil {
				return err
			}
			happened, err := theirs.until(ctx, 4)
			if err != nil {
				return err
			}
			spent := spansOf(happened, began, began, ended)
			where.alone.add(ended.Sub(began), spent[:])

			t, err := d.job(ctx, document)
			if err != nil {
				return err
			}
			if happened, err = ours.until(ctx, 4); err != nil {
				return err
			}
			spent = spansOf(happened, t.submitted, t.answered, t.finished)
			where.hutong.add(t.finished.Sub(t.submitted), spent[:])
			if err := d.settle(ctx, t); err != nil {
				return err
			}
			where.log(o)
		}
		return nil
	})
	if err != nil {
		return err
	}
	chapter.add(timed("one job", where.hutong, where.alone, c.one))
	into.splits = append(into.splits, where)
	return nil
}

// log prints the last run.
func (s *split) log(o options) {
	if o.noisy {
		n := len(s.hutong.total) - 1
		fmt.Printf("%s: hutong %s, alone %s\n", s.name, text(s.hutong.total[n]), text(s.alone.total[n]))
	}
}

// atOnce measures n jobs at once.
func (c dockerCase) atOnce(ctx context.Context, o options, d *deployment, a *alone, document []byte, n int, chapter *chapter) error {
	where := split{name: fmt.Sprintf("%d jobs at once", n)}
	var cpu []time.Duration
	var ids []string
	for range o.roundsOf(n) {
		took, err := a.many(ctx, n)
		if err != nil {
			return err
		}
		where.alone.add(took, nil)
		before := d.cpu()
		err = d.profiled(ctx, o, fmt.Sprintf("many-%d-%s", n, c.short), func() (err error) {
			took, ids, err = d.many(ctx, document, n)
			return err
		})
		if err != nil {
			return err
		}
		where.hutong.add(took, nil)
		cpu = append(cpu, (d.cpu()-before)/time.Duration(n))
		where.log(o)
	}
	var all history
	for _, id := range ids {
		cost, err := d.historyOf(ctx, id)
		if err != nil {
			return err
		}
		all.steps += cost.steps
		all.events += cost.events
	}
	chapter.add(timed(where.name, where.hutong, where.alone, c.many,
		fmt.Sprintf("Hutong's CPU for each job: %s, with %d steps of its workflows and %d events", text(median(cpu)), all.steps/n, all.events/n)))
	return nil
}

// roundsOf is how often n jobs at once are measured.
func (o options) roundsOf(n int) int {
	if n > 20 {
		return 1
	}
	return o.rounds
}

// dockerfile is what an image is built of: that file alone.
func dockerfile(text string) (io.Reader, error) {
	var context bytes.Buffer
	archive := tar.NewWriter(&context)
	if err := archive.WriteHeader(&tar.Header{Name: "Dockerfile", Mode: 0o600, Size: int64(len(text))}); err != nil {
		return nil, err
	}
	if _, err := archive.Write([]byte(text)); err != nil {
		return nil, err
	}
	return &context, archive.Close()
}

// clean removes the containers that an interrupted run left, its own only, and the networks of its parties.
func (d *deployment) clean(ctx context.Context, docker *client.Client) {
	for _, label := range []string{"hutong.node_id=" + d.guest, "hutong.node_id=" + d.host, runLabel + "=" + d.guest} {
		filter := filters.NewArgs(filters.Arg("label", label))
		containers, err := docker.ContainerList(ctx, container.ListOptions{All: true, Filters: filter})
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench: containers may be left:", err)
		}
		for _, c := range containers {
			if err := docker.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
				fmt.Fprintln(os.Stderr, "bench: a container is left:", err)
			}
		}
		networks, err := docker.NetworkList(ctx, network.ListOptions{Filters: filter})
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench: networks may be left:", err)
		}
		for _, n := range networks {
			if err := docker.NetworkRemove(ctx, n.ID); err != nil {
				fmt.Fprintln(os.Stderr, "bench: a network is left:", err)
			}
		}
	}
}
