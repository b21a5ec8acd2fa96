package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"

	"hutong/bfia"
)

// dockerCase is a measurement of containers on one kind of network. A target of 0 is none.
type dockerCase struct {
	short, name           string
	hostNetwork           bool
	targetOne, targetMany float64
}

func (c dockerCase) measure(ctx context.Context, o options, docker *client.Client, into *report) error {
	var flags []string
	if c.hostNetwork {
		flags = append(flags, "--host-network")
	}
	d, err := startDeployment(ctx, o, flags...)
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
	one, err := c.single(ctx, o, d, a, docker, document)
	if err != nil {
		return err
	}
	into.rows = append(into.rows, one)
	many, err := c.many(ctx, o, d, a, document)
	if err != nil {
		return err
	}
	into.rows = append(into.rows, many)
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
func (c dockerCase) single(ctx context.Context, o options, d *deployment, a *alone, docker *client.Client, document []byte) (row, error) {
	r := row{name: "one job, " + c.name, target: c.targetOne, spanNames: spanNames[:]}
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
			split := spansOf(happened, began, began, ended)
			r.alone.add(ended.Sub(began), split[:])

			t, err := d.job(ctx, document)
			if err != nil {
				return err
			}
			if happened, err = ours.until(ctx, 4); err != nil {
				return err
			}
			split = spansOf(happened, t.submitted, t.answered, t.finished)
			r.hutong.add(t.finished.Sub(t.submitted), split[:])
			if err := d.settle(ctx, t); err != nil {
				return err
			}
			r.log(o)
		}
		return nil
	})
	return r, err
}

// many measures many jobs at once.
func (c dockerCase) many(ctx context.Context, o options, d *deployment, a *alone, document []byte) (row, error) {
	r := row{name: fmt.Sprintf("%d jobs at once, %s", o.jobs, c.name), target: c.targetMany}
	for range o.rounds {
		took, err := a.many(ctx, o.jobs)
		if err != nil {
			return r, err
		}
		r.alone.add(took, nil)
		before := d.cpu()
		err = d.profiled(ctx, o, "many-"+c.short, func() (err error) {
			took, err = d.many(ctx, document, o.jobs)
			return err
		})
		if err != nil {
			return r, err
		}
		r.hutong.add(took, nil)
		r.cpu = append(r.cpu, (d.cpu()-before)/time.Duration(o.jobs))
		r.log(o)
	}
	return r, nil
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
