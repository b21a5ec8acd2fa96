package kubernetes

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"hutong/activities/driver"
)

// Wait waits for the container's end and records it as an annotation of the Job, because pods disappear.
func (k *Driver) Wait(ctx context.Context, name string) (driver.Exit, error) {
	exit, err := k.watch(ctx, name, func(s jobState) (progress, error) { return k.settle(ctx, s) })

	return exit, driver.WrapError("wait for", name, err)
}

// settle determines whether and how a container ended, and records the end before it returns it.
func (k *Driver) settle(ctx context.Context, s jobState) (progress, error) {
	if exit, ok := recordedExit(s.job); ok {
		return progress{ended: true, exit: exit}, nil
	}

	p := k.inspect(s, time.Now())
	if !p.ended {
		return p, nil
	}

	switch err := k.recordExit(ctx, s.job, p.exit, p.suspend); {
	case apierrors.IsConflict(err):
		return progress{}, errConflict // the Job changed at the same time
	case err != nil:
		return progress{}, fmt.Errorf("failed to record its end: %w", classify(err))
	}

	return p, nil
}
