// Package driver defines how a runner runs a part of a task. Each device has one [Driver] in a package of its
// own: docker runs containers, process runs plain processes, kubernetes runs Jobs. All of them pass the suite
// of package drivertest.
//
// What a driver starts is called a container, also when it is a process or a pod.
//
// # Idempotence
//
// An activity calls a Driver. It can be retried at any moment, also while an earlier attempt still runs, and
// also by another process of the runner after the first one was killed. So a Driver keeps no state in memory
// that matters. The container's name identifies it, its state is kept by Docker Engine, by Kubernetes or in
// the container's folder, and every method may be called repeatedly and concurrently:
//
//	id, err := d.Create(ctx, spec) // creates, or finds
//	err = d.Start(ctx, spec.Name)  // starts, or does nothing if it was started
//	exit, err := d.Wait(ctx, spec.Name)
//	err = d.Remove(ctx, spec.Name)
//
// A container is started at most once. A container that was started and lost is reported as failed. To run it
// again, the caller creates another one under another name.
package driver
