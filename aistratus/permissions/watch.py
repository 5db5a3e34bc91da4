"""Logs, alarms, dashboards, topics, budgets, rules, schedules, quotas.

Source: their pages of the Service Authorization Reference.
"""

from __future__ import annotations

from aistratus.permissions import resource_types as t
from aistratus.permissions.check import Check, Params, Table, listing, pass_role, same, tagging

_BUDGET_LISTS = ("DescribeBudgets", "DescribeBudgetNotificationsForAccount")
_BUDGET_READS = ("DescribeBudget", "DescribeSubscribersForNotification")
_BUDGET_WRITES = (
    "UpdateBudget", "DeleteBudget", "CreateNotification", "DeleteNotification", "CreateSubscriber", "UpdateSubscriber",
    "DeleteSubscriber",
)  # fmt: skip


def _budget(params: Params) -> list[str]:
    described = params.get("Budget") or params.get("NewBudget") or params
    return [str(described["BudgetName"])]


def _schedule(params: Params) -> list[str]:
    return [f"{params.get('GroupName', 'default')}/{params['Name']}"]


WATCH: Table = {
    **listing("logs", "DescribeLogGroups"),
    **same(
        "logs",
        t.LOG_GROUP,
        "logGroupName",
        "PutRetentionPolicy DeleteLogGroup DescribeMetricFilters PutMetricFilter DeleteMetricFilter",
    ),
    **same("logs", t.LOG_SHOWN, "logGroupName", "FilterLogEvents"),
    **same(
        "logs",
        t.LOG_STREAM,
        "join(':log-stream:', [logGroupName, logStreamName])",
        "CreateLogStream PutLogEvents",
    ),
    **same("logs", t.LOG_GROUP, "resourceArn", "ListTagsForResource TagResource"),
    "logs:CreateLogGroup": (
        Check("logs:CreateLogGroup", t.LOG_GROUP, "logGroupName"),
        tagging("logs:TagResource", t.LOG_GROUP, "logGroupName", "tags"),
    ),
    **listing("sns", "ListTopics"),
    **same("sns", t.TOPIC, "TopicArn", "GetTopicAttributes SetTopicAttributes DeleteTopic Publish Subscribe"),
    **same("sns", t.TOPIC, "TopicArn", "ListSubscriptionsByTopic"),
    **same("sns", t.TOPIC, "ResourceArn", "ListTagsForResource TagResource"),
    # A subscription is no resource of IAM's, and the request doesn't name its topic. The Service Authorization
    # Reference calls the topic optional; denials are told against `*` of the account. Sources: danilop/yas3fs issue 57,
    # KensioSoftware/yulin pull request 662.
    **listing("sns", "Unsubscribe"),
    "sns:CreateTopic": (
        Check("sns:CreateTopic", t.TOPIC, "Name"),
        tagging("sns:TagResource", t.TOPIC, "Name", "Tags"),
    ),
    # Alarms are listed by a prefix, which AWS takes for all of them.
    **same("cloudwatch", t.ALARMS, "'*'", "DescribeAlarms"),
    **same("cloudwatch", t.ALARM, "AlarmNames", "DeleteAlarms"),
    **same("cloudwatch", t.WATCH, "ResourceARN", "ListTagsForResource TagResource"),
    "cloudwatch:PutMetricAlarm": (
        Check("cloudwatch:PutMetricAlarm", t.ALARM, "AlarmName"),
        tagging("cloudwatch:TagResource", t.ALARM, "AlarmName", "Tags"),
    ),
    **listing("cloudwatch", "ListDashboards GetMetricStatistics"),
    **same("cloudwatch", t.DASHBOARD, "DashboardName", "GetDashboard"),
    **same("cloudwatch", t.DASHBOARD, "DashboardNames", "DeleteDashboards"),
    "cloudwatch:PutDashboard": (
        Check("cloudwatch:PutDashboard", t.DASHBOARD, "DashboardName"),
        tagging("cloudwatch:TagResource", t.DASHBOARD, "DashboardName", "Tags"),
    ),
    # Budgets has two actions for all its operations, and lists are asked for on every budget.
    **{f"budgets:{name}": (Check("budgets:ViewBudget", t.BUDGETS),) for name in _BUDGET_LISTS},
    **{f"budgets:{name}": (Check("budgets:ViewBudget", t.BUDGET, "BudgetName"),) for name in _BUDGET_READS},
    **{f"budgets:{name}": (Check("budgets:ModifyBudget", t.BUDGET, _budget),) for name in _BUDGET_WRITES},
    "budgets:CreateBudget": (
        Check("budgets:ModifyBudget", t.BUDGET, _budget),
        tagging("budgets:TagResource", t.BUDGET, _budget, "ResourceTags"),
    ),
    **same("budgets", t.BUDGET, "ResourceARN", "ListTagsForResource TagResource"),
    # Cost Explorer has no resource level for its answers, the price list none at all.
    **listing("ce", "GetCostAndUsage ListCostAllocationTags"),
    **listing("pricing", "GetProducts"),
    **listing("events", "ListRules"),
    **same("events", t.RULE, "Rule", "PutTargets RemoveTargets ListTargetsByRule"),
    **same("events", t.RULE, "Name", "DeleteRule"),
    **same("events", t.RULE, "ResourceARN", "ListTagsForResource TagResource"),
    "events:PutRule": (Check("events:PutRule", t.RULE, "Name"), tagging("events:TagResource", t.RULE, "Name", "Tags")),
    **listing("scheduler", "ListScheduleGroups"),
    **same("scheduler", t.SCHEDULE_GROUP, "Name", "GetScheduleGroup DeleteScheduleGroup"),
    **same("scheduler", t.SCHEDULE_GROUP, "ResourceArn", "ListTagsForResource TagResource"),
    "scheduler:CreateScheduleGroup": (
        Check("scheduler:CreateScheduleGroup", t.SCHEDULE_GROUP, "Name"),
        tagging("scheduler:TagResource", t.SCHEDULE_GROUP, "Name", "Tags"),
    ),
    **same("scheduler", t.SCHEDULE, _schedule, "GetSchedule DeleteSchedule"),
    **{
        f"scheduler:{name}": (
            Check(f"scheduler:{name}", t.SCHEDULE, _schedule),
            pass_role("Target.RoleArn", "scheduler.amazonaws.com"),
        )
        for name in ("CreateSchedule", "UpdateSchedule")
    },
    **same("service-quotas", t.EVERYTHING, "'*'", "GetServiceQuota", prefix="servicequotas"),
}
