// Package docker runs the parts of tasks as Docker containers.
//
// # Isolation
//
// Labels on a container name its party. The driver never touches a container of the same name without these
// labels. A container has no capabilities, cannot gain privileges, and is never restarted by Docker Engine.
// The containers of a party share a bridge network. On it they reach the party, by the name
// [Options].PartyHost, and the Internet, but not each other.
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
