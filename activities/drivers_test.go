package activities_test

import (
	"context"
	"errors"
	"sync"

	"hutong/activities/driver"
)

// crashingDriver is a driver whose worker crashes at one step, once.
// Nothing after that step happens.
type crashingDriver struct {
	testDriver
	at      string // such as "before Start"
	once    sync.Once
	onCrash func()
}

var errWorkerDied = errors.New("the worker died")

// crash calls onCrash at the configured step. Without onCrash it panics, which is close to a killed worker.
func (c *crashingDriver) crash(step string) {
	if step == c.at {
		c.once.Do(func() {
			if c.onCrash == nil {
				panic(errWorkerDied)
			}
			c.onCrash()
		})
	}
}

func (c *crashingDriver) Create(ctx context.Context, s driver.Spec) (string, error) {
	c.crash("before Create")
	id, err := c.testDriver.Create(ctx, s)
	c.crash("after Create")
	return id, err
}

func (c *crashingDriver) Start(ctx context.Context, name string) error {
	c.crash("before Start")
	err := c.testDriver.Start(ctx, name)
	c.crash("after Start")
	return err
}

func (c *crashingDriver) Wait(ctx context.Context, name string) (driver.Exit, error) {
	if c.at == "in Wait" {
		c.crash("in Wait") // the wait continues, as the container does
	}
	return c.testDriver.Wait(ctx, name)
}

// Remove is called after the end of the activity.
func (c *crashingDriver) Remove(ctx context.Context, name string) error {
	if c.at == "before Remove" {
		return errWorkerDied
	}
	return c.testDriver.Remove(ctx, name)
}

// failingStartDriver fails every start.
type failingStartDriver struct {
	testDriver
	fails func(ctx context.Context, name string) error
}

func (s *failingStartDriver) Start(ctx context.Context, name string) error { return s.fails(ctx, name) }

// specObserver passes the specification of each created container to seen.
type specObserver struct {
	testDriver
	seen func(driver.Spec)
}

func (s *specObserver) Create(ctx context.Context, spec driver.Spec) (string, error) {
	s.seen(spec)
	return s.testDriver.Create(ctx, spec)
}
