{{- /* One Scout per cluster, so the names are fixed: a second release is refused by Helm, which finds them taken. */}}
{{- define "scout.hostSync" -}}scout-host-sync{{- end }}
{{- define "scout.policyServer" -}}scout-policy-server{{- end }}

{{- define "scout.labels" -}}
app.kubernetes.io/part-of: scout
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "scout.hostSync.selector" -}}
app.kubernetes.io/name: host-sync
app.kubernetes.io/part-of: scout
{{- end }}

{{- /* reference: an OCI reference from a dict of image (repository, tag, digest) and default (the tag where none is set). */}}
{{- define "scout.reference" -}}
{{- if .image.digest }}{{ .image.repository }}@{{ .image.digest }}{{ else }}{{ .image.repository }}:{{ .image.tag | default .default }}{{ end }}
{{- end }}
