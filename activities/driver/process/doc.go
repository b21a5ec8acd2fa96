// Package process runs the parts of tasks as plain processes.
//
// # Supervisor
//
// Each container is a folder. One small supervisor process for each directory starts the commands, adds
// timestamps to their output and records how they ended. All this continues while the worker is down. The
// worker starts the supervisor on demand, [Supervise] is its main function, and it exits after one idle
// minute. If the supervisor is killed, its commands continue and Wait still waits for their end. Their exit
// codes are lost then, so they count as failed.
//
// # No isolation
//
// A command runs as the worker's user and has all of that user's rights. Mounts are symbolic links. Read-only
// mounts and limits of CPU and memory are not enforced. Without cgroups, a process only has a limit of its
// address space, and that breaks programs that reserve more than they use, such as those of Go and Java. The
// device is for commands that the operator has listed in the configuration and trusts.
//
// A systemd unit of the worker needs KillMode=process. Otherwise the end of the service kills the supervisor
// and all commands.
package process
