package drivertest

import (
	"context"
	"testing"

	"hutong/activities/driver"
)

// RunOnce creates, starts, awaits and removes a container.
func RunOnce(b *testing.B, r driver.Driver, spec driver.Spec) {
	ctx := context.Background()
	if _, err := r.Create(ctx, spec); err != nil {
		b.Fatal(err)
	}
	if err := r.Start(ctx, spec.Name); err != nil {
		b.Fatal(err)
	}
	if exit, err := r.Wait(ctx, spec.Name); err != nil || exit.Code != 0 {
		b.Fatal(exit, err)
	}
	if err := r.Remove(ctx, spec.Name); err != nil {
		b.Fatal(err)
	}
}
