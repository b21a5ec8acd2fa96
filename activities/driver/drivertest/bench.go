package drivertest

import (
	"context"
	"testing"

	"hutong/activities/driver"
)

// RunOnce creates, starts, awaits and removes a container.
func RunOnce(b *testing.B, d driver.Driver, spec driver.Spec) {
	ctx := context.Background()
	if _, err := d.Create(ctx, spec); err != nil {
		b.Fatal(err)
	}
	if err := d.Start(ctx, spec.Name); err != nil {
		b.Fatal(err)
	}
	if exit, err := d.Wait(ctx, spec.Name); err != nil || exit.Code != 0 {
		b.Fatal(exit, err)
	}
	if err := d.Remove(ctx, spec.Name); err != nil {
		b.Fatal(err)
	}
}
