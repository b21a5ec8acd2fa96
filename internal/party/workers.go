package party

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"go.temporal.io/sdk/client"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/activities/driver/docker"
	"hutong/activities/driver/process"
	"hutong/activities/housekeeping"
	"hutong/activities/notification"
	"hutong/activities/participant"
	"hutong/activities/periodic"
	"hutong/activities/runner"
	"hutong/activities/scheduler"
	"hutong/admission"
	"hutong/api"
	"hutong/bfia"
	"hutong/internal/tracing"
	"hutong/store"
	"hutong/store/blob"
	"hutong/worker"
	"hutong/workflows"
)

// maxParallelism limits the running tasks of one job at parties that grant no reservations, such as
// FATE-Flow. Each workflow task of a job examines all of its running tasks, so a higher limit slows a job
// down.
const maxParallelism = 32

func (p *Party) settings() workflows.Settings {
	return workflows.Settings{
		PollAfter: p.cfg.Jobs.PollAfter, PollEvery: p.cfg.Jobs.PollEvery,
		GiveUpAfter: p.cfg.Remote.GiveUpAfter,
		StopGrace:   p.cfg.Runner.StopGrace, TasksInFlight: maxParallelism, Attempts: p.cfg.Jobs.MaxAttempts,
		RunnerLostAfter: p.cfg.Jobs.RunnerLostAfter, FailureSharing: p.cfg.Jobs.ShareFailure,
	}
}

func (p *Party) limits() admission.Limits {
	j := p.cfg.Jobs
	return admission.Limits{Jobs: j.MaxJobs, Tasks: j.MaxContainers, PerFlow: j.MaxJobsPerFlow,
		PerPartner: j.MaxJobsPerPartner}
}

func (p *Party) startControl(ctx context.Context, temporal client.Client, db *store.Store,
	blobs blob.Store) error {
	notifier, err := p.cfg.Notifier()
	if err != nil {
		return err
	}
	notifies := len(notifier.Receivers) > 0
	if err := switchNotifications(ctx, db, notifies); err != nil {
		return err
	}
	partners := p.remote(p.cfg.Remote.Timeout)
	workflowClient, err := p.workflowClient(temporal)
	if err != nil {
		return err
	}
	if workflowClient != temporal {
		p.onStop(func(context.Context) error { workflowClient.Close(); return nil })
	}
	w := worker.NewControl(workflowClient,
		&scheduler.Activities{Node: p.cfg.NodeID, Store: db, Documents: db, Limits: p.limits(),
			Client: partners, OnPollEnd: func() { p.metrics.Callback("poll", nil) },
			OnWait: forwardWaits(temporal, workflows.SchedulerJobID), Logger: p.logger},
		&participant.Activities{Node: p.cfg.NodeID, Store: db, Blobs: blobs, Limits: p.limits(),
			CheckDatasets: p.cfg.Jobs.CheckDatasets,
			Client:        partners,
			Holders:       p.sessionHolders,
			HTTP:          p.transportClient(p.cfg.Remote.Timeout),
			Logger:        p.logger},
		&housekeeping.Activities{Node: p.cfg.NodeID, Store: db, Blobs: blobs, Keep: p.cfg.Jobs.Retention,
			DeleteWorkflows: p.workflowDeleter(temporal), OnRemoved: p.metrics.Removed,
			Logger: p.logger},
		&notification.Activities{Node: p.cfg.NodeID, Store: db, Sender: notifier, Started: time.Now(),
			PartnerSilence: p.cfg.Notifications.PartnerSilence,
			Logger:         p.logger}, notifies,
		&periodic.Activities{Store: db, Submit: p.api.SubmitPeriodic, Logger: p.logger})
	if err := w.Start(); err != nil {
		return err
	}
	p.onStop(func(context.Context) error { w.Stop(); return nil })
	p.metrics.CollectRows(db, api.RunnerState, p.logger)
	return nil
}

// switchNotifications switches the notifications of the party on or off. Switched on, they begin with what
// happens from then on, so that a party with old jobs sends nothing for them.
func switchNotifications(ctx context.Context, db *store.Store, on bool) error {
	if on {
		return db.StartNotifications(ctx)
	}
	return db.StopNotifications(ctx)
}

func (p *Party) startRunner(ctx context.Context, temporal client.Client, db *store.Store, blobs blob.Store,
	docker *docker.Driver) error {
	runs := &runner.Runner{Node: p.cfg.NodeID, Machine: hostname(), Store: db, Blobs: blobs,
		Drivers:         map[string]driver.Driver{},
		System:          p.system,
		OnReport:        forwardReports(temporal),
		OnControlReport: func(err error) { p.metrics.Callback("control_port", err) },
		OnExit:          func() { p.metrics.Callback("exit", nil) },
		OnOrphanRemoved: func() { p.metrics.Removed("containers", 1) },
		OnWait:          forwardWaits(temporal, workflows.ParticipantJobID),
		StopGrace:       p.cfg.Runner.StopGrace,
		AllowExceptions: p.cfg.Security.Mode == SecurityOpen,
		GPUs:            p.cfg.Runner.GPUs, LogFilesLimit: int64(p.cfg.Runner.LogFilesMiB) << 20,
		Logger: p.logger}
	if p.tracing != nil && p.cfg.Tracing.Containers {
		runs.TraceParent = tracing.Parent
	}
	var named driver.Driver // its id becomes the runner's id
	if len(p.cfg.Runner.Process.Allow) > 0 {
		processes, err := process.New(process.Options{Dir: filepath.Join(p.cfg.DataDir, "runs"),
			AllowedCommands: p.cfg.Runner.Process.Allow})
		if err != nil {
			return fmt.Errorf("failed to open the process driver of party %s: %w", p.cfg.NodeID, err)
		}
		runs.Drivers[processes.Device()] = processes
		named = processes
	}
	if docker != nil {
		runs.Drivers[docker.Device()] = docker
		named = docker // the id of Docker Engine identifies the runner independently of the data folder
	}
	if p.cfg.Runner.K8s.Enabled {
		cluster, err := p.cfg.OpenKubernetes()
		if err != nil {
			return fmt.Errorf("failed to open the Kubernetes driver of party %s: %w", p.cfg.NodeID, err)
		}
		runs.Drivers[cluster.Device()] = cluster
		named = cluster
	}
	if named == nil {
		return fmt.Errorf("failed to start the runner of party %s: it has no driver, because Docker Engine "+
			"does not answer, "+
			"runner.process.allow is empty and runner.k8s.enabled is false", p.cfg.NodeID)
	}
	id, err := named.RunnerID(ctx)
	if err != nil {
		return fmt.Errorf("failed to read the id of party %s's runner: %w", p.cfg.NodeID, err)
	}
	runs.RunnerID = id
	if err := p.startGate(ctx, runs, temporal, db, docker); err != nil {
		return err
	}
	w, err := worker.NewRunner(ctx, temporal, runs,
		worker.RunnerCapacity{Slots: p.cfg.Runner.Slots, Labels: p.cfg.Runner.Labels,
			Capacity: p.cfg.Runner.capacityOf(named)}, p.logger)
	if err != nil {
		return err
	}
	if err := w.Start(); err != nil {
		return err
	}
	p.onStop(func(context.Context) error { w.Stop(); return nil })
	return nil
}

// forwardReports returns a function that signals the end of a polled container to the job's workflow, like a
// callback.
func forwardReports(temporal client.Client) func(context.Context, string, bfia.TaskReport) error {
	return func(ctx context.Context, jobID string, report bfia.TaskReport) error {
		return temporal.SignalWorkflow(ctx, workflows.ParticipantJobID(jobID), "",
			workflows.SignalTaskCallback, report)
	}
}

// forwardWaits reports to a job's workflow what a part waits for.
func forwardWaits(temporal client.Client, workflowID func(jobID string) string,
) func(context.Context, string, activities.PartWait) error {
	return func(ctx context.Context, jobID string, wait activities.PartWait) error {
		return temporal.SignalWorkflow(ctx, workflowID(jobID), "", workflows.SignalTaskWait, wait)
	}
}
