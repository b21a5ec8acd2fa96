// Package kubernetes runs the parts of tasks as Jobs in one namespace of a Kubernetes cluster.
//
// A container is a suspended Job. Start resumes it, Stop deletes its pod. Pods disappear, so Wait records the
// exit as an annotation of the Job before it returns it. The environment is stored in secrets that the Job
// owns.
package kubernetes
