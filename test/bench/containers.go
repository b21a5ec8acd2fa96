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

// dockerCase measures the reference job's containers on one kind of network.
type dockerCase struct {
	short, name string
	hostNetwork bool
	one, many   target
}

func (c dockerCase) run(ctx context.Context, o options, into *report) error {
	docker, err := o.connectDocker(ctx)
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
	defer d.removeLeftovers(context.WithoutCancel(ctx), docker)
	defer d.stop()
	const provider = "unionpay"
	metadata := bfia.Metadata{Image: imageTag, Command: []string{"CallbackOnly"}}
	if err := d.registerAndUpload(ctx, provider, bfia.DeviceDocker, metadata); err != nil {
		return err
	}
	document, err := d.referenceJob(provider)
	if err != nil {
		return err
	}
	a, err := c.warmUp(ctx, d, docker, document)
	if err != nil {
		return fmt.Errorf("failed to run the first job: %w", err)
	}
	defer a.callbacks.close()
	chapter := into.addSection("The reference job, "+c.name, "Docker only")
	if err := c.measureOne(ctx, o, d, a, docker, document, into, chapter); err != nil {
		return err
	}
	many := o.many
	if c.hostNetwork {
		many = many[:1] // the growth is measured with bridges
	}
	for _, n := range many {
		if err := c.measureMany(ctx, o, d, a, document, n, chapter); err != nil {
			return err
		}
	}
	return nil
}

// warmUp runs a job once to read the configuration of its containers, and runs the baseline once.
func (c dockerCase) warmUp(ctx context.Context, d *deployment, docker *client.Client,
	document []byte) (*dockerBaseline, error) {
	w := watchEvents(ctx, docker, true, "hutong.node_id", d.guest, d.host)
	defer w.stop()
	t, err := d.runJob(ctx, document)
	if err != nil {
		return nil, err
	}
	if _, err := w.awaitDestroyed(ctx, 4); err != nil {
		return nil, err
	}
	if err := d.awaitHost(ctx, t); err != nil {
		return nil, err
	}
	a, err := newDockerBaseline(docker, d.guest, d.dir, w.inspected)
	if err != nil {
		return nil, err
	}
	_, _, err = a.runJob(ctx)
	return a, err
}

// measureOne measures one job at a time.
func (c dockerCase) measureOne(ctx context.Context, o options, d *deployment, a *dockerBaseline,
	docker *client.Client, document []byte, into *report, chapter *reportSection) error {
	where := breakdown{name: "one job, " + c.name, spans: spanNames[:]}
	ours := watchEvents(ctx, docker, false, "hutong.node_id", d.guest, d.host)
	defer ours.stop()
	theirs := watchEvents(ctx, docker, false, runLabel, a.id)
	defer theirs.stop()
	err := d.withProfile(ctx, o, "one-"+c.short, func() error {
		for range o.runs {
			began, ended, err := a.runJob(ctx)
			if err != nil {
				return err
			}
			happened, err := theirs.awaitDestroyed(ctx, 4)
			if err != nil {
				return err
			}
			spent := spansOf(happened, began, began, ended)
			where.baseline.add(ended.Sub(began), spent[:])

			t, err := d.runJob(ctx, document)
			if err != nil {
				return err
			}
			if happened, err = ours.awaitDestroyed(ctx, 4); err != nil {
				return err
			}
			spent = spansOf(happened, t.submitted, t.answered, t.finished)
			where.hutong.add(t.finished.Sub(t.submitted), spent[:])
			if err := d.awaitHost(ctx, t); err != nil {
				return err
			}
			where.log(o)
		}
		return nil
	})
	if err != nil {
		return err
	}
	chapter.add(compareMedians("one job", where.hutong, where.baseline, c.one))
	into.splits = append(into.splits, where)
	return nil
}

// log prints the last measurement.
func (s *breakdown) log(o options) {
	if o.verbose {
		n := len(s.hutong.total) - 1
		fmt.Printf("%s: hutong %s, baseline %s\n", s.name, formatDuration(s.hutong.total[n]),
			formatDuration(s.baseline.total[n]))
	}
}

// measureMany measures n jobs at once.
func (c dockerCase) measureMany(ctx context.Context, o options, d *deployment, a *dockerBaseline,
	document []byte, n int, chapter *reportSection) error {
	where := breakdown{name: fmt.Sprintf("%d jobs at once", n)}
	var cpu []time.Duration
	var ids []string
	for range o.roundsFor(n) {
		took, err := a.runMany(ctx, n)
		if err != nil {
			return err
		}
		where.baseline.add(took, nil)
		before := d.cpu()
		err = d.withProfile(ctx, o, fmt.Sprintf("many-%d-%s", n, c.short), func() (err error) {
			took, ids, err = d.runMany(ctx, document, n)
			return err
		})
		if err != nil {
			return err
		}
		where.hutong.add(took, nil)
		cpu = append(cpu, (d.cpu()-before)/time.Duration(n))
		where.log(o)
	}
	var all historyCost
	for _, id := range ids {
		cost, err := d.historyOf(ctx, id)
		if err != nil {
			return err
		}
		all.workflowTasks += cost.workflowTasks
		all.events += cost.events
	}
	chapter.add(compareMedians(
		where.name,
		where.hutong,
		where.baseline,
		c.many,
		fmt.Sprintf("Hutong's CPU for each job: %s, with %d workflow tasks and %d events",
			formatDuration(median(cpu)), all.workflowTasks/n, all.events/n),
	))
	return nil
}

// roundsFor returns how often n jobs at once are measured.
func (o options) roundsFor(n int) int {
	if n > 20 {
		return 1
	}
	return o.rounds
}

// dockerfile returns the build context of an image that needs only a Dockerfile.
func dockerfile(text string) (io.Reader, error) {
	var context bytes.Buffer
	archive := tar.NewWriter(&context)
	header := &tar.Header{Name: "Dockerfile", Mode: 0o600, Size: int64(len(text))}
	if err := archive.WriteHeader(header); err != nil {
		return nil, err
	}
	if _, err := archive.Write([]byte(text)); err != nil {
		return nil, err
	}
	return &context, archive.Close()
}

// removeLeftovers removes the containers that an interrupted run of this program left, and the networks of
// its parties.
func (d *deployment) removeLeftovers(ctx context.Context, docker *client.Client) {
	labels := []string{"hutong.node_id=" + d.guest, "hutong.node_id=" + d.host, runLabel + "=" + d.guest}
	for _, label := range labels {
		filter := filters.NewArgs(filters.Arg("label", label))
		containers, err := docker.ContainerList(ctx, container.ListOptions{All: true, Filters: filter})
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench: failed to list containers to remove:", err)
		}
		for _, c := range containers {
			options := container.RemoveOptions{Force: true, RemoveVolumes: true}
			if err := docker.ContainerRemove(ctx, c.ID, options); err != nil {
				fmt.Fprintln(os.Stderr, "bench: failed to remove a container:", err)
			}
		}
		networks, err := docker.NetworkList(ctx, network.ListOptions{Filters: filter})
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench: failed to list networks to remove:", err)
		}
		for _, n := range networks {
			if err := docker.NetworkRemove(ctx, n.ID); err != nil {
				fmt.Fprintln(os.Stderr, "bench: failed to remove a network:", err)
			}
		}
	}
}
