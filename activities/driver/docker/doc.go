// Package docker runs the parts of tasks as Docker containers.
//
// # Isolation
//
// Labels on a container name its party. The driver never touches a container of the same name without these
// labels. A container runs as an unprivileged user without capabilities, on a read-only root file system,
// cannot gain privileges, and is never restarted by Docker Engine. [driver.Spec].Allow has the exceptions.
//
// The containers of a party share an internal bridge network. On it they reach their machine, by the name
// [Options].PartyHost, but no other network and not each other. [Driver.Guard] closes the machine's ports
// except the party's own. docs/operators/containers.md lists all of it.
//
// Everyone with access to Docker Engine can read a container's environment, secrets included. Access to
// Docker Engine equals root access to the runner anyway.
//
// # Start at most once
//
// Docker Engine cannot start a container only if it never ran. Start therefore inspects and starts it under a
// lock that all processes of the runner share. One gap remains: a process dies after it sent its request and
// before Docker Engine handles it, while another process inspects the container at that same moment.
package docker
