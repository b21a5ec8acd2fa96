// Package runner runs a task's program on a host: one Runner for each device,
// Docker containers ([Docker]) and plain processes ([Process]).
//
// A Runner is called by an activity that can be begun again at any moment, also
// while an earlier attempt still runs, also by another process on the same
// host after the first was killed. So a Runner keeps nothing in memory that
// matters. The name of a run is all that a caller needs to find it again, the
// truth lies with the Docker Engine or in the run's folder, and every method may
// be called any number of times, concurrently:
//
//	id, err := r.Create(ctx, spec) // creates, or finds
//	err = r.Start(ctx, spec.Name)  // starts, or sees that it was started
//	exit, err := r.Wait(ctx, spec.Name)
//	err = r.Remove(ctx, spec.Name)
//
// Above all, a run is started at most once. What was started and is lost is
// reported as failed; starting it again is the caller's decision, under
// another name.
//
// # Containers
//
// A container carries labels that say whose it is; a container of the same name
// without them is never touched. It has no capabilities, cannot gain
// privileges, and is never restarted by Docker. Containers of one party share a
// bridge network on which they reach the party (by the name
// [DockerOptions].PartyHost) and the world, but not each other. Its environment,
// secrets included, can be read by whoever may talk to the Docker Engine; that
// is as good as root on the host anyway.
//
// Docker has no way to start a container only if it never ran. Start therefore
// looks and starts under a lock that all processes of the host share. What
// remains is a process killed within the instant between its request and
// the Engine taking it up, while another one looks in that same instant.
//
// # Processes
//
// A run is a folder, and one small supervisor process for each [Process]
// directory starts the commands, timestamps what they print and records how they
// ended, so that all this goes on while the worker is down. The worker starts the
// supervisor when it needs it ([Supervise] is its main function); it ends by
// itself when it has been idle for a minute. If the supervisor is killed, its commands go on and are
// still waited for, but how they end cannot be known any more, and they
// count as failed.
//
// A command runs as the worker's user and can do what that user can:
// mounts are symbolic links, read-only is a promise and not enforced, and limits
// of CPU and memory are not enforced either (a limit of the address space, all
// that a process has without cgroups, breaks programs that reserve more than
// they use, Go's and Java's among them). The device is for commands
// that the operator has named in the configuration and trusts.
//
// When the worker is a systemd service, give it KillMode=process, or the end of
// the service kills the supervisor and all commands.
package driver
