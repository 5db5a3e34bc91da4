"""CloudWatch and metric filters in the embedded cloud, strict or not: what the shim mends."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from embedded_cloud_parts import Connect, refused, unique

ALARM = {
    "Namespace": "N", "MetricName": "m", "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1, "Threshold": 1.0,
    "ComparisonOperator": "GreaterThanThreshold",
}  # fmt: skip


def test_alarms_and_dashboards_carry_tags_from_their_creation_on(connect: Connect) -> None:
    cloudwatch, name = connect("cloudwatch"), unique("n")
    first, second = [{"Key": "k", "Value": "1"}], [{"Key": "k", "Value": "2"}]
    body = json.dumps({"widgets": []})
    cloudwatch.put_metric_alarm(AlarmName=name, Tags=first, **ALARM)
    cloudwatch.put_dashboard(DashboardName=name, DashboardBody=body, Tags=first)
    (alarm,) = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    arns = [alarm["AlarmArn"], cloudwatch.get_dashboard(DashboardName=name)["DashboardArn"]]
    assert alarm["StateValue"] == "INSUFFICIENT_DATA"

    cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="test")
    cloudwatch.put_metric_alarm(AlarmName=name, Tags=second, **ALARM)
    cloudwatch.put_dashboard(DashboardName=name, DashboardBody=body, Tags=second)
    assert [cloudwatch.list_tags_for_resource(ResourceARN=arn)["Tags"] for arn in arns] == [first, first]
    assert cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["StateValue"] == "ALARM"
    for arn in arns:
        cloudwatch.tag_resource(ResourceARN=arn, Tags=second)
    assert [cloudwatch.list_tags_for_resource(ResourceARN=arn)["Tags"] for arn in arns] == [second, second]

    cloudwatch.delete_alarms(AlarmNames=[name])
    cloudwatch.delete_dashboards(DashboardNames=[name])
    for arn in arns:
        assert refused(cloudwatch.list_tags_for_resource, ResourceARN=arn) == "ResourceNotFoundException"


def test_a_metric_filter_is_one_of_its_name_and_goes_with_its_group(connect: Connect) -> None:
    logs, group = connect("logs"), f"/{unique('g')}"
    made = [{"metricNamespace": "N", "metricName": "m", "metricValue": "1"}]
    put = {"logGroupName": group, "filterName": "f", "metricTransformations": made}
    assert refused(logs.put_metric_filter, filterPattern="a", **put) == "ResourceNotFoundException"
    assert refused(logs.describe_metric_filters, logGroupName=group) == "ResourceNotFoundException"
    logs.create_log_group(logGroupName=group)
    logs.put_metric_filter(filterPattern="a", **put)
    logs.put_metric_filter(filterPattern="b", **put)
    found = logs.describe_metric_filters(logGroupName=group)["metricFilters"]
    assert [one["filterPattern"] for one in found] == ["b"]
    logs.delete_log_group(logGroupName=group)
    logs.create_log_group(logGroupName=group)
    assert logs.describe_metric_filters(logGroupName=group)["metricFilters"] == []
    assert refused(logs.delete_metric_filter, logGroupName=group, filterName="f") == "ResourceNotFoundException"


def test_a_queue_tells_cloudwatch_how_old_its_oldest_message_is(connect: Connect) -> None:
    name = unique("q")
    sqs, url = connect("sqs"), connect("sqs").create_queue(QueueName=name)["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="one")

    def newest(metric: str) -> float:
        now = datetime.now(UTC)
        points = connect("cloudwatch").get_metric_statistics(
            Namespace="AWS/SQS", MetricName=metric, Dimensions=[{"Name": "QueueName", "Value": name}], Period=60,
            StartTime=now - timedelta(minutes=5), EndTime=now + timedelta(minutes=1), Statistics=["Maximum"],
        )["Datapoints"]  # fmt: skip
        return float(points[-1]["Maximum"])

    assert 0 <= newest("ApproximateAgeOfOldestMessage") < 60
    assert newest("ApproximateNumberOfMessagesVisible") == 1
    sqs.receive_message(QueueUrl=url)
    assert (newest("ApproximateNumberOfMessagesVisible"), newest("ApproximateNumberOfMessagesNotVisible")) == (0, 1)
