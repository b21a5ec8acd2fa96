{{/* The beginning of the names of all objects. */}}
{{- define "hutong.name" -}}
{{- contains "hutong" .Release.Name | ternary .Release.Name (printf "%s-hutong" .Release.Name) | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* What selects the pods of a process: (list . "api"). */}}
{{- define "hutong.selector" -}}
app.kubernetes.io/name: hutong
app.kubernetes.io/instance: {{ (index . 0).Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* The labels of an object of a process: (list . "api"). */}}
{{- define "hutong.labels" -}}
{{ include "hutong.selector" . }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: hutong-{{ (index . 0).Chart.Version }}
{{- end }}

{{/* The disruption budget of a process of which several pods run: (list . "api"). */}}
{{- define "hutong.budget" }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "hutong.name" (index . 0) }}-{{ index . 1 }}
  labels:
    {{- include "hutong.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "hutong.selector" . | nindent 6 }}
{{- end }}

{{/* What the chart sets in party.yaml. */}}
{{- define "hutong.owned" -}}
{{- $ca := and .Values.secrets.services "/etc/hutong/services/ca.crt" }}
data_dir: /var/lib/hutong
listen: 0.0.0.0:9380
tls: {cert_file: /etc/hutong/api/tls.crt, key_file: /etc/hutong/api/tls.key}
partners:
  listen: 0.0.0.0:9382
  tls: {cert_file: /etc/hutong/partners/tls.crt, key_file: /etc/hutong/partners/tls.key}
containers: {listen: "0.0.0.0:9381"}
ops: {listen: "0.0.0.0:9385"}
transport:
  listen: 0.0.0.0:9390
  partner_listen: 0.0.0.0:9391
  several: true # also if it is one, so that replicas can change
database:
  url_file: /etc/hutong/database_url
  {{- with $ca }}
  ca_file: {{ . }}
  {{- end }}
storage:
  url_file: /etc/hutong/storage_url
  {{- with $ca }}
  ca_file: {{ . }}
  {{- end }}
{{- if or $ca .Values.secrets.keys }}
temporal:
  {{- with $ca }}
  tls: {ca_file: {{ . }}}
  {{- end }}
  {{- if .Values.secrets.keys }}
  encryption: {keys_dir: /etc/hutong-keys}
  {{- end }}
{{- end }}
runner:
  docker: {enabled: "false"}
  k8s: {namespace: {{ .Values.tasks.namespace | quote }}} # the runner turns it on
{{- end }}

{{/* party.yaml. It refuses fields of config that the chart sets, and secrets. */}}
{{- define "hutong.party" -}}
{{- $owned := include "hutong.owned" . | fromYaml }}
{{- $secret := "must not be in values, since it is a secret: %s" }}
{{- $set := "is set by the chart; leave it out" }}
{{- $refused := dict
  "database.url" (printf $secret "write it as database_url into the Secret of secrets.urls")
  "storage.url" (printf $secret "write it as storage_url into the Secret of secrets.urls")
  "temporal.api_key" (printf $secret "name its file in temporal.api_key_file and its Secret in secrets.files")
  "notifications.smtp.password" (printf $secret "name its file in notifications.smtp.password_file and its Secret in secrets.files")
  "runner.process" $set "runner.k8s.enabled" $set "runner.k8s.advertise" $set "runner.k8s.kubeconfig" $set
  "transport.spool_dir" $set "transport.advertise" $set "transport.name" $set "transport.standby" $set
  "transport.sessions" $set "upload.dir" $set }}
{{- range $name, $value := $owned }}
  {{- if kindIs "map" $value }}
    {{- range $key, $inner := $value }}
      {{- if kindIs "map" $inner }}
        {{- range $last, $_ := $inner }}{{ $_ := set $refused (printf "%s.%s.%s" $name $key $last) $set }}{{ end }}
      {{- else }}{{ $_ := set $refused (printf "%s.%s" $name $key) $set }}{{ end }}
    {{- end }}
  {{- else }}{{ $_ := set $refused $name $set }}{{ end }}
{{- end }}
{{- range $field, $why := $refused }}
  {{- $at := $.Values.config }}
  {{- range splitList "." $field }}
    {{- if kindIs "map" $at }}{{ $at = get $at . }}{{ else }}{{ $at = "" }}{{ end }}
  {{- end }}
  {{- if $at }}{{ fail (printf "config.%s: %s" $field $why) }}{{ end }}
{{- end }}
{{- if contains "@" (dig "proxy" "url" "" .Values.config) }}
  {{- fail (printf "config.proxy.url: %s" (printf $secret "name its file in proxy.url_file and its Secret in secrets.files")) }}
{{- end }}
{{- range $i, $receiver := dig "notifications" "receivers" (list) .Values.config }}
  {{- range $key := list "url" "secret" }}
    {{- if dig "webhook" $key "" $receiver }}
      {{- fail (printf "config.notifications.receivers[%d].webhook.%s: %s" $i $key (printf $secret
        (printf "name its file in %s_file and its Secret in secrets.files" $key))) }}
    {{- end }}
  {{- end }}
{{- end }}
{{- if eq .Values.tasks.namespace .Release.Namespace }}
  {{- fail (printf "tasks.namespace: must differ from the namespace of the release (%s), whose Secrets a Job there could read" .Release.Namespace) }}
{{- end }}
{{- mustMergeOverwrite (deepCopy .Values.config) $owned | toYaml }}
{{- end }}

{{- define "hutong.image" -}}
{{- with .Values.image }}
{{- .repository }}{{ with .tag }}:{{ . }}{{ end }}{{ with .digest }}@{{ . }}{{ end }}
{{- end }}
{{- end }}

{{/*
The metadata and the spec of the pod of a process: (dict "root" . "name" "api" "args" (list "api") ...). ready is the path of its
readiness. ports, env, mounts are of its container. config is its ConfigMap. data is the volume of /var/lib/hutong, by default an empty one.
*/}}
{{- define "hutong.pod" -}}
{{- $values := .root.Values -}}
metadata:
  labels:
    {{- include "hutong.selector" (list .root .name) | nindent 4 }}
    {{- with $values.pod.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/config: {{ include "hutong.party" .root | sha256sum }}
    {{- with $values.pod.annotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- with $values.pod.spec }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with .account }}
  serviceAccountName: {{ . }}
  {{- end }}
  automountServiceAccountToken: {{ hasKey . "account" }}
  # Variables of Services begin with their names, as Hutong's do. Only the runner uses one.
  enableServiceLinks: {{ hasKey . "account" }}
  restartPolicy: {{ .restart | default "Always" }}
  terminationGracePeriodSeconds: 45 # hutong stops within 30 s
  {{- with $values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65530
    runAsGroup: 65530
    fsGroup: 65530
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- if .spread }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "hutong.selector" (list .root .name) | nindent 10 }}
  {{- end }}
  containers:
    - name: {{ .name }}
      image: {{ include "hutong.image" .root }}
      args: {{ toJson .args }}
      env:
        - {name: HUTONG_CONFIG, value: /etc/hutong/party.yaml}
        {{- with .env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- if hasKey . "ports" }}
      ports:
        {{- range $name, $port := .ports }}
        - {name: {{ $name }}, containerPort: {{ $port }}}
        {{- end }}
        - {name: ops, containerPort: 9385}
      livenessProbe: {httpGet: {path: /healthz, port: ops}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}
      readinessProbe: {httpGet: {path: {{ .ready }}, port: ops}, periodSeconds: 5, timeoutSeconds: 5, failureThreshold: 3}
      {{- if eq .ready "/healthz" }}
      # It becomes ready as the others do. Then it keeps its Service while the database or Temporal is away: no other pod can
      # take its place, and containers that it serves already need neither.
      startupProbe: {httpGet: {path: /readyz, port: ops}, periodSeconds: 2, timeoutSeconds: 5, failureThreshold: 300}
      {{- end }}
      # Its Services forget it before it stops.
      lifecycle: {preStop: {sleep: {seconds: 5}}}
      {{- end }}
      resources:
        {{- toYaml (index $values .name).resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: config, mountPath: /etc/hutong, readOnly: true}
        - {name: data, mountPath: /var/lib/hutong}
        - {name: tmp, mountPath: /tmp}
        {{- if $values.secrets.keys }}
        - {name: keys, mountPath: /etc/hutong-keys, readOnly: true}
        {{- end }}
        {{- range $i, $name := $values.secrets.files }}
        - {name: files-{{ $i }}, mountPath: /etc/hutong-files/{{ $name }}, readOnly: true}
        {{- end }}
  volumes:
    - name: config
      projected:
        defaultMode: 0440
        sources:
          - configMap: {name: {{ .config | default (include "hutong.name" .root) }}}
          - secret: {name: {{ $values.secrets.urls }}, items: [{key: database_url, path: database_url}, {key: storage_url, path: storage_url}]}
          - secret: {name: {{ $values.secrets.api }}, items: [{key: tls.crt, path: api/tls.crt}, {key: tls.key, path: api/tls.key}]}
          - secret: {name: {{ $values.secrets.partners }}, items: [{key: tls.crt, path: partners/tls.crt}, {key: tls.key, path: partners/tls.key}]}
          {{- with $values.secrets.services }}
          - secret: {name: {{ . }}, items: [{key: ca.crt, path: services/ca.crt}]}
          {{- end }}
    {{- if not .claimed }}
    - name: data
      {{- toYaml (.data | default (dict "emptyDir" dict)) | nindent 6 }}
    {{- end }}
    - {name: tmp, emptyDir: {}}
    {{- if $values.secrets.keys }}
    - name: keys
      secret: {secretName: {{ $values.secrets.keys }}, defaultMode: 0440}
    {{- end }}
    {{- range $i, $name := $values.secrets.files }}
    - name: files-{{ $i }}
      secret: {secretName: {{ $name }}, defaultMode: 0440}
    {{- end }}
{{- end }}
